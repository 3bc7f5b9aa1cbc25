"""The picture of the views of one image: a row an epoch, a column a view, to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from msn_mm.visualization.pixels import as_rgb
from msn_mm.visualization.shown_views import ShownView, painted
from msn_mm.visualization.style import new_figure, save_png

# Inches of the largest view's side, and what a picture may be wide in all.
_SIDE, _WIDEST = 1.5, 20.0


def plot_views(
    original: np.ndarray, epochs: Sequence[Sequence[ShownView]], out: str | Path
) -> None:
    """Draw the image and, below each other, the views of some epochs.

    Hidden patches are painted over in one pale colour.

    Args:
        original: ``(H, W, C)`` uint8, C of 1 or 3.
        epochs: The views of each epoch, alike in number and size.
        out: PNG to write, whole or not at all.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not epochs or not epochs[0]:
        raise ValueError("no views to draw")
    sides = [view.pixels.shape[0] for view in epochs[0]]
    widths = [max(sides), *sides]
    scale = min(_SIDE, _WIDEST * max(sides) / sum(widths)) / max(sides)
    # Room for the narrowest heading, and for the headings' two lines.
    columns = [max(0.55, width * scale) for width in widths]
    figure = new_figure(sum(columns) + 0.5, len(epochs) * max(columns) + 0.6)
    axes = figure.subplots(len(epochs), len(widths), squeeze=False, width_ratios=columns)
    for epoch, (row, views) in enumerate(zip(axes, epochs, strict=True)):
        for axis in row:
            axis.set(xticks=[], yticks=[], anchor="N")
            axis.spines[:].set_visible(False)
        if epoch == 0:
            _show(row[0], original / np.float32(255))
            row[0].set_title("image\n" + f"{original.shape[1]} x {original.shape[0]}", fontsize=8)
        row[0].set_ylabel(f"epoch {epoch}", fontsize=8)
        for axis, view in zip(row[1:], views, strict=True):
            _show(axis, painted(view))
    for axis, heading in zip(axes[0][1:], _headings(epochs), strict=True):
        axis.set_title(heading, fontsize=8, loc="left")
    save_png(figure, out)


def _show(axis: Axes, pixels: np.ndarray) -> None:
    axis.imshow(as_rgb(pixels), interpolation="nearest")


def _headings(epochs: Sequence[Sequence[ShownView]]) -> list[str]:
    """Return a heading for the first view of each group, and empty ones for the others."""
    seen: set[str] = set()
    headings = []
    for views in zip(*epochs, strict=True):
        name, side = views[0].name, views[0].pixels.shape[0]
        headings.append("" if name in seen else f"{name}\n{side} px{_share(views)}")
        seen.add(name)
    return headings


def _share(views: Sequence[ShownView]) -> str:
    """Say how much of a view is hidden, from the least to the most of the epochs."""
    shares = [view.hidden.mean() for view in views if view.hidden is not None]
    if not shares:
        return ""
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return f", {low if low == high else f'{low} to {high}'} hidden"
