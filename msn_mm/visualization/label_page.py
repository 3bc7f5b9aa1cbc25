"""A page with the images to label, a field below each, and the CSV to download."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from msn_mm.datasets import EvalCrop
from msn_mm.datasets.decode import as_pixels, printable
from msn_mm.utils.results import write_atomically
from msn_mm.visualization.html_page import data_uri, escape, html_page, json_block, page_text
from msn_mm.visualization.pixels import as_rgb

THUMBNAIL = 256
"""Longest side of a thumbnail in pixels."""

# Drawings and scans this small stay sharp and are not much larger so.
_LOSSLESS_SIDE = 96
_QUALITY = 82

Row = Sequence[str]


def write_label_page(
    path: Path,
    folder: Path,
    view: EvalCrop,
    columns: Row,
    rows: Sequence[Row],
    number: int,
    file: str,
) -> None:
    """Write the page, whole or not at all; it holds all that it shows and asks no network.

    Args:
        path: The HTML file.
        folder: Where the images lie.
        view: The encoder's; thumbnails show whole images with its channels and window.
        columns: Names of the columns; the first four are path, label, rank and reason.
        rows: Their values. What is typed into the page takes the place of the label.
        number: How many of the first rows are shown to be labelled.
        file: What the CSV is called that the page writes.
    """
    labels = sorted({row[1] for row in rows if row[1]})
    data = {"columns": list(columns), "rows": [*map(list, rows)], "labels": labels, "file": file}
    figures = [_figure(folder, view, row) for row in rows[:number]]
    body = "\n".join(
        [
            f"<p>Type what each image shows, then download <code>{escape(file)}</code>. An image "
            "without a label is passed over. Nothing is sent anywhere.</p>",
            '<div class="bar"><button id="download" type="button">Download labels</button>'
            '<span id="count" role="status"></span></div>',
            '<datalist id="labels"></datalist>',
            '<div class="images">',
            *figures,
            "</div>",
            json_block("rows", data),
        ]
    )
    page = html_page(
        f"{number} images to label first",
        body,
        style=page_text("label_page.css"),
        script=page_text("label_page.js"),
    )
    write_atomically(path, page.encode())


def _figure(folder: Path, view: EvalCrop, row: Row) -> str:
    name, reason = printable(row[0]), row[3]
    return (
        f'<figure><img src="{_thumbnail(folder / row[0], view)}" alt="" loading="lazy">'
        f'<figcaption>{escape(name)}<br><span class="faint">{escape(reason)}</span></figcaption>'
        f'<input list="labels" aria-label="label of {escape(name)}" placeholder="label" '
        'autocomplete="off" autocapitalize="off" spellcheck="false"></figure>'
    )


def _thumbnail(file: Path, view: EvalCrop) -> str:
    pixels = as_pixels({"img_path": str(file)}, view.channels, view.window)
    image = Image.fromarray(as_rgb(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    if max(image.size) <= _LOSSLESS_SIDE:
        image.save(content, "PNG")
        return data_uri(content.getvalue(), "image/png")
    image.save(content, "JPEG", quality=_QUALITY)
    return data_uri(content.getvalue(), "image/jpeg")
