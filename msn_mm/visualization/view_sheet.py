"""Pictures side by side as one array, for logs; without matplotlib, whose import takes its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msn_mm.visualization.shown_views import ShownView, painted

_GAP = 4
_GROUND = 255


def view_sheet(images: Sequence[Sequence[ShownView]]) -> NDArray[np.uint8]:
    """Lay out views, a row an image, a column a view, each in its own size.

    Args:
        images: The views of each image, alike in number and size.

    Returns:
        uint8 ``(H, W, 3)``; hidden patches are pale.

    Raises:
        ValueError: There is nothing to lay out.
    """
    return sheet([[(255 * painted(view)).round().astype(np.uint8) for view in r] for r in images])


def sheet(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Lay out pictures uint8 ``(h, w, 3)`` in rows, each row from the left.

    Raises:
        ValueError: There is nothing to lay out.
    """
    if not rows or not all(rows):
        raise ValueError("no pictures to lay out")
    width = max(sum(p.shape[1] + _GAP for p in row) for row in rows) - _GAP
    heights = [max(p.shape[0] for p in row) for row in rows]
    canvas = np.full((sum(heights) + _GAP * (len(rows) - 1), width, 3), _GROUND, dtype=np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for p in row:
            canvas[top : top + p.shape[0], left : left + p.shape[1]] = p
            left += p.shape[1] + _GAP
        top += height + _GAP
    return canvas
