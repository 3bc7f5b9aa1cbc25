"""Images of any number of channels as a screen shows them."""

from __future__ import annotations

import numpy as np


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, C) pixels as (H, W, 3): the first three channels, or the first thrice.

    Args:
        pixels: uint8 (H, W, C).
    """
    if pixels.shape[2] < 3:
        return pixels[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])
