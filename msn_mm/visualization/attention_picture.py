"""Attention over an image, as pixels; without matplotlib, for a training draws them too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

# Between these anchors colours are mixed: dark blue, purple, orange, pale yellow. Lightness
# rises all the way, so that it reads without colour too.
_ANCHORS = np.array([[13, 8, 60], [126, 3, 168], [204, 71, 120], [248, 149, 64], [245, 249, 120]])
_STRENGTH = 0.62


def attention_picture(
    view: Tensor, attention: NDArray[np.floating], side: int, patch_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return an image with its attention laid over it.

    Args:
        view: uint8 ``(C, H, W)``, square.
        attention: ``(R, K)`` weights of the patches; NaN where one is hidden.
        side: Side of the picture in pixels.
        patch_size: Height and width of a patch in the view's pixels. What it does not divide
            is cut off by the network: the last rows and columns belong to no patch.

    Returns:
        uint8 ``(side, side, 3)``; hidden patches are hatched in grey, and what belongs to no
        patch is the image's own grey.
    """
    pixels = view.permute(1, 2, 0).numpy()
    grey = pixels.mean(axis=2).astype(np.uint8)
    enlarge = Image.Resampling.NEAREST if len(grey) < side // 2 else Image.Resampling.LANCZOS
    base = np.asarray(Image.fromarray(grey).resize((side, side), enlarge), dtype=np.float32)
    hidden = np.isnan(attention)
    low, high = np.nanmin(attention), np.nanmax(attention)
    level = np.where(hidden, 0.0, (attention - low) / ((high - low) or 1.0))
    # One row and one column more for what belongs to no patch.
    rows, columns = (
        np.minimum(np.arange(side) * length // side // patch, count)
        for length, patch, count in zip(pixels.shape, patch_size, attention.shape, strict=False)
    )
    border = ((0, 1), (0, 1))
    place = np.ix_(rows, columns)
    colours = _coloured(np.pad(level, border))[place]
    mixed = (1 - _STRENGTH) * base[:, :, None] + _STRENGTH * colours
    y, x = np.indices((side, side))
    hatch = np.where((x + y) // 4 % 2 == 0, 188.0, 164.0)
    drawn = np.where(np.pad(hidden, border)[place][:, :, None], hatch[:, :, None], mixed)
    is_patch = np.pad(np.ones_like(hidden), border)[place]
    return np.where(is_patch[:, :, None], drawn, base[:, :, None]).round().astype(np.uint8)


def _coloured(level: NDArray[np.floating]) -> NDArray[np.float64]:
    """Levels in [0, 1] -> colours, one dimension more."""
    stops = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(level, stops, _ANCHORS[:, c]) for c in range(3)], axis=-1)
