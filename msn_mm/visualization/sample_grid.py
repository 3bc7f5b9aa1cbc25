"""The picture of an RCDM: an image, what its encoder saw of it, and samples, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.textpath import TextPath
from PIL import Image

from msn_mm.visualization.style import new_figure, save_png

# Inches of a tile's side, and what a picture may be wide or high in all.
_TILE, _LONGEST = 0.62, 60.0
_LEAST_PIXELS, _GAP = 64, 4
# Inches around and above the tiles, and sizes of the letters.
_MARGIN, _HEADINGS, _TITLE = 0.08, 0.24, 0.22
_LABEL_POINTS, _TITLE_POINTS = 7, 9


@dataclass(frozen=True)
class GridRow:
    """One row of tiles.

    Attributes:
        label: What stands left of it.
        tiles: Square images ``(S, S, 3)`` uint8, of any side.
        begins_group: A wider gap lies above it.
    """

    label: str
    tiles: Sequence[np.ndarray]
    begins_group: bool = False


def plot_grid(
    headings: Sequence[str], rows: Sequence[GridRow], out: str | Path, title: str | None = None
) -> None:
    """Draw rows of tiles, all to one size.

    Args:
        headings: What stands above the columns; an empty one continues its left neighbour's.
        rows: Alike in number of tiles.
        out: PNG to write, whole or not at all.
        title: Title of the picture.

    Raises:
        ValueError: There is nothing to draw, or rows differ in length.
    """
    if not rows or len({len(row.tiles) for row in rows}) != 1 or not rows[0].tiles:
        raise ValueError("no rows to draw, or of different lengths")
    if len(headings) != len(rows[0].tiles):
        raise ValueError(f"{len(headings)} headings for {len(rows[0].tiles)} columns")
    side = max(_LEAST_PIXELS, *(tile.shape[0] for row in rows for tile in row.tiles))
    step = side + _GAP
    top = 0
    tops: list[int] = []
    for row in rows:
        top += 3 * _GAP if row.begins_group and tops else 0
        tops.append(top)
        top += step
    canvas = np.full((top - _GAP, len(headings) * step - _GAP, 3), 255, dtype=np.uint8)
    for row, place in zip(rows, tops, strict=True):
        for number, tile in enumerate(row.tiles):
            left = number * step
            canvas[place : place + side, left : left + side] = scaled(tile, side)
    scale = min(_TILE, _LONGEST / len(headings), _LONGEST / len(rows)) / step
    # Placed by measure: a layout engine does not know how wide a picture of fixed shape
    # becomes, and cut long labels off.
    left = max(_inches(row.label, _LABEL_POINTS) for row in rows) + 2 * _MARGIN
    above = _HEADINGS + (_TITLE if title else 0.0)
    tiles_wide, tiles_high = (length * scale for length in (canvas.shape[1], canvas.shape[0]))
    wide = max(left + tiles_wide, _inches(title or "", _TITLE_POINTS) + _MARGIN) + _MARGIN
    high = above + tiles_high + _MARGIN
    figure = new_figure(wide, high)
    figure.set_layout_engine("none")
    axis = figure.add_axes((left / wide, _MARGIN / high, tiles_wide / wide, tiles_high / high))
    axis.imshow(canvas, interpolation="nearest")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelsize=_LABEL_POINTS)
    axis.xaxis.tick_top()
    axis.set_xticks([side / 2 + number * step for number in range(len(headings))], headings)
    axis.set_yticks([place + side / 2 for place in tops], [row.label for row in rows])
    if title:
        figure.text(_MARGIN / wide, 1 - _MARGIN / high, title, fontsize=_TITLE_POINTS, va="top")
    save_png(figure, out)


def _inches(text: str, points: float) -> float:
    """Return how wide a line of text is."""
    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72 if text else 0.0


def scaled(tile: np.ndarray, side: int) -> np.ndarray:
    """Bring a tile to another side; whole multiples keep their pixels square."""
    if tile.shape[0] == side:
        return tile
    is_multiple = side % tile.shape[0] == 0
    how = Image.Resampling.NEAREST if is_multiple else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(tile).resize((side, side), how))
