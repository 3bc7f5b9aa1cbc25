"""One HTML file that needs nothing beside it: style, script, pictures and data lie in it.

What comes from outside (paths, names, settings) passes through :mod:`markupsafe`,
which escapes it: only :class:`markupsafe.Markup` reaches the page as markup.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from msn_mm.utils.results import Table, to_json

_PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
    '<link rel="icon" href="data:,">\n'
    "<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    '<a class="skip" href="#main">Skip to the content</a>\n'
    "<header><h1>{title}</h1>{lead}</header>\n"
    '<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    '<main id="main">\n{sections}</main>\n'
    "<footer>{footer}</footer>\n<script>\n{script}</script>\n</body>\n</html>\n"
)
_SECTION = Markup(
    '<section id="{id}" aria-labelledby="{id}-title">\n'
    '<h2 id="{id}-title">{title}</h2>\n{body}\n{downloads}</section>\n'
)
_TABLE = Markup(
    '<div class="scroll" role="region" tabindex="0" aria-label="{caption}">\n'
    '<table class="sortable"><caption class="{kind}">{caption}</caption>\n'
    "<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
)
_NUMBER = re.compile(r"([-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?)(?: ± [\d.]+)?(?: ?%)?")


@dataclass(frozen=True)
class Download:
    """Data that a reader can save from the page.

    Attributes:
        name: Name of the file.
        content: What is in it.
        kind: Its MIME type.
    """

    name: str
    content: str
    kind: str = "text/csv"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: Its anchor: letters, digits and hyphens.
        title: Its heading.
        body: What it shows.
        downloads: The data of what it shows.
    """

    id: str
    title: str
    body: Markup
    downloads: Sequence[Download] = ()


def render_page(title: str, lead: Markup, sections: Sequence[Section], footer: str = "") -> str:
    """Return the page.

    Args:
        title: Heading and title of the window.
        lead: Below the heading.
        sections: In the order of the page; each gets a link at its top.
        footer: The page's last line.
    """
    return str(
        _PAGE.format(
            title=title,
            lead=lead,
            links=joined(
                Markup('<li><a href="#{}">{}</a></li>').format(s.id, s.title) for s in sections
            ),
            sections=joined(
                _SECTION.format(
                    id=s.id, title=s.title, body=s.body, downloads=download_links(s.downloads)
                )
                for s in sections
            ),
            footer=footer,
            # Ours, and without `</`: they need no escape, which would break them.
            style=Markup(asset("page.css")),
            script=Markup(asset("page.js")),
        )
    )


def asset(name: str) -> str:
    """Return a file of ``msn_mm/visualization/assets``."""
    return (resources.files("msn_mm.visualization") / "assets" / name).read_text(encoding="utf-8")


def joined(parts: Iterable[Any]) -> Markup:
    """Concatenate; what is not markup is escaped."""
    return Markup("").join(parts)


def paragraph(text: Any, kind: str = "") -> Markup:
    """Return a paragraph of a class of the style sheet: ``note``, ``missing``, ``warning``."""
    return Markup('<p class="{}">{}</p>\n').format(kind, text)


def details(summary: str, body: Any) -> Markup:
    """Return a part that is closed until its summary is clicked."""
    return Markup("<details><summary>{}</summary>\n{}</details>\n").format(summary, body)


def code(text: str) -> Markup:
    """Return preformatted text that scrolls by itself where it is wide."""
    return Markup('<pre tabindex="0">{}</pre>\n').format(text)


def data_uri(content: bytes, kind: str) -> str:
    """Return content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def download_links(downloads: Sequence[Download]) -> Markup:
    """Return links that save data; nothing of no data."""
    if not downloads:
        return Markup("")
    links = (
        Markup('<a class="download" download="{}" href="{}">{}</a>').format(
            d.name, data_uri(d.content.encode(), d.kind), d.name
        )
        for d in downloads
    )
    return Markup('<p class="downloads">Data: {}</p>\n').format(joined(links))


def csv_of(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as comma-separated values."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def json_of(value: Any) -> str:
    """Return a value as JSON; NaN and infinities become null."""
    return json.dumps(to_json(value), allow_nan=False)


def embedded_json(value: Any, kind: str) -> Markup:
    """Return data for the page's script, in an element of a class."""
    # In a script element only `</` and `<!--` are special, and no escape is undone.
    text = json_of(value).replace("<", "\\u003c")
    return Markup('<script type="application/json" class="{}">{}</script>').format(
        kind, Markup(text)
    )


def html_table(
    table: Table, caption: str, published: Iterable[int] = (), is_titled: bool = False
) -> Markup:
    """Return a table that is sorted by a click, or a key, on a heading.

    Args:
        table: Its cells. A column of numbers (``47.1``, ``47.1 ± 0.1``) sorts by them.
        caption: What it shows.
        published: Numbers of the rows that others published; they are marked.
        is_titled: A heading above says what it shows; the caption is only spoken.
    """
    marked = set(published)
    numbers = [
        _is_of_numbers(row[place] for row in table.rows) for place in range(len(table.header))
    ]
    head = joined(
        Markup('<th scope="col" aria-sort="none"{}><button type="button">{}</button></th>').format(
            _NUMBERS if place and numbers[place] else "", name
        )
        for place, name in enumerate(table.header)
    )
    rows = joined(
        Markup("<tr{}>{}</tr>\n").format(
            Markup(' class="published"') if number in marked else "",
            joined(
                _cell(cell, numbers[place]) if place else _ROW_NAME.format(cell)
                for place, cell in enumerate(row)
            ),
        )
        for number, row in enumerate(table.rows)
    )
    kind = "spoken" if is_titled else ""
    return _TABLE.format(caption=caption, kind=kind, head=head, rows=rows)


_NUMBERS = Markup(' class="number"')
_ROW_NAME = Markup('<th scope="row">{}</th>')


def _is_of_numbers(cells: Iterable[str]) -> bool:
    filled = [cell.strip() for cell in cells if cell.strip() not in ("", "-")]
    return bool(filled) and all(_NUMBER.fullmatch(cell) for cell in filled)


def _cell(text: str, is_number: bool) -> Markup:
    found = _NUMBER.fullmatch(text.strip()) if is_number else None
    if found is None:
        return Markup("<td{}>{}</td>").format(_NUMBERS if is_number else "", text)
    return Markup('<td class="number" data-value="{}">{}</td>').format(
        found[1].replace(",", ""), text
    )


def pairs(rows: Iterable[tuple[str, Any]]) -> Markup:
    """Return a list of names and values; pairs without a value are left out."""
    shown = (
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value)
        for name, value in rows
        if value not in (None, "")
    )
    return Markup('<dl class="pairs">{}</dl>\n').format(joined(shown))


__all__ = [
    "Download",
    "Markup",
    "Section",
    "asset",
    "code",
    "csv_of",
    "data_uri",
    "details",
    "download_links",
    "embedded_json",
    "escape",
    "html_table",
    "joined",
    "json_of",
    "pairs",
    "paragraph",
    "render_page",
]
