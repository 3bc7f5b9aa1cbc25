"""One view on a CPU: what :meth:`ViewOp.apply` does to a batch, done while it is in the cache.

A GPU wants the whole batch and few kernels. A CPU spends its time on fetching
pixels, so it takes a view through all its operations before the next, by OpenCV's
kernels, and puts off what is affine in the colours (brightness, contrast,
saturation, grey, normalisation): such steps are gathered in one 3 x 4 matrix,
applied in one pass when a clamp, a turn of the hue or the end needs the pixels.
Flips and blurs, whose weights sum to 1, commute with the matrix and do not.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

# Never changed in place.
_IDENTITY = np.eye(3, 4)
_UNIT = _IDENTITY / 255


class HostView:
    """A view of three channels, its colours known up to an affine map that waits.

    Args:
        image: uint8 (3, S, S), best with channels last in memory. Levels 0-255 stand
            for [0, 1].
    """

    def __init__(self, image: np.ndarray) -> None:
        self._pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        self._affine = _UNIT

    @property
    def side(self) -> int:
        """S, in pixels."""
        return int(self._pixels.shape[0])

    @property
    def affine(self) -> np.ndarray:
        """The map that waits, float64 (3, 4), from the stored pixels to [0, 1]."""
        return self._affine

    def mean_of(self, functional: np.ndarray) -> float:
        """Return the mean over all pixels of an affine function (4,) of the stored ones."""
        return float(functional @ (*cv2.mean(self._pixels)[:3], 1.0))

    def blend(self, factor: float, other: np.ndarray | float) -> None:
        """Take ``factor * x + (1 - factor) * other``, clamped where that can leave [0, 1].

        Args:
            factor: 0 or more.
            other: (4,), an affine function of the stored pixels in [0, 1]; 0 is black.
        """
        self._affine = factor * self._affine + (1 - factor) * other
        if factor > 1:
            pixels = self._settled()
            np.clip(pixels, 0, 1, out=pixels)

    def commute(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change pixels (S, S, 3), uint8 or float32, by what commutes with an affine map."""
        self._pixels = change(self._pixels)

    def change(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change pixels, float32 (S, S, 3) in [0, 1], by anything."""
        self._pixels = change(self._settled())

    def write(self, out: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
        """Write ``scale * x + shift``, both (3,), to float32 (3, S, S)."""
        self._affine = scale[:, None] * self._affine
        self._affine[:, 3] += shift
        cv2.mixChannels([self._settled()], list(out), [0, 0, 1, 1, 2, 2])

    def _settled(self) -> np.ndarray:
        """Apply the map that waits."""
        pixels = self._pixels.astype(np.float32, copy=False)
        self._pixels = cv2.transform(pixels, self._affine.astype(np.float32))
        self._affine = _IDENTITY
        return self._pixels
