"""The parts of a page: sections, tables that sort, lists, data that can be saved.

What comes from outside (paths, names, settings) passes through :mod:`markupsafe`,
which escapes it: only :class:`markupsafe.Markup` reaches the page as markup.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from markupsafe import Markup

from msn_mm.utils.results import Table, to_json
from msn_mm.visualization.html_page import data_uri, html_page, json_block, page_text

_BODY = Markup(
    '<a class="skip" href="#main">Skip to the content</a>\n{lead}'
    '<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    '<main id="main">\n{sections}</main>\n<footer>{footer}</footer>\n'
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
    body = _BODY.format(
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
    )
    style, script = page_text("report_page.css"), page_text("report_page.js")
    return html_page(title, str(body), style, script)


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


def embedded_json(value: Any) -> Markup:
    """Return data for the page's script, which finds it in the element around."""
    value = to_json(value)
    # An id must be there and be no other's; nobody looks for it.
    digest = blake2b(json.dumps(value).encode(), digest_size=6).hexdigest()
    return Markup(json_block(f"data-{digest}", value))


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
