"""Gaussian blur with a width of its own for each view."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, check_probability, rows_where
from msn_mm.registry import VIEW_OPS

# The kernel is cut at so many standard deviations of the widest blur in range.
_CUT = 3.0


def blur_matrices(sigma: Tensor, half: Tensor, reach: int, side: int) -> Tensor:
    """Return the matrices that blur along one axis, borders reflected.

    A blurred line is ``matrix @ line``. As a matrix the reflection costs
    nothing, and a batch with a sigma for each image is one product.

    Args:
        sigma: (R,) standard deviation in pixels, positive.
        half: (R,) taps on each side of the centre.
        reach: Largest number of taps on a side that is looked at, below ``side``.
        side: S, length of the line in pixels.

    Returns:
        float32 (R, S, S), on the device of ``sigma``; each row sums to 1.
    """
    taps = torch.arange(reach + 2, dtype=torch.float32, device=sigma.device)
    weights = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2) * (taps <= half[:, None])
    weights[:, -1] = 0.0
    weights /= 2 * weights.sum(1, keepdim=True) - weights[:, :1]
    # Pixel j is met at its own place, at -j and at 2 (S - 1) - j; the last
    # column of the weights, zero, stands for all that is too far away. The edge
    # pixels are their own reflection and count once.
    source = torch.arange(side, device=sigma.device)
    to = source[:, None]
    left = torch.where(source > 0, to + source, side + reach)
    right = torch.where(source < side - 1, 2 * (side - 1) - source - to, side + reach)
    far = [d.clamp(max=reach + 1).flatten() for d in ((to - source).abs(), left, right)]
    matrices = weights.index_select(1, far[0])
    for distance in far[1:]:
        matrices += weights.index_select(1, distance)
    return matrices.view(-1, side, side)


@VIEW_OPS.register_module()
class GaussianBlur(ViewOp):
    """Blur with a Gaussian of random width, the radius of the SimCLR family.

    The radius is the standard deviation in pixels, as in Pillow's
    ``GaussianBlur(radius)`` (Pillow itself approximates the Gaussian by three
    box filters). The kernel is separable, cut at three standard deviations of
    the widest blur in range, with reflected borders. Numbers of one view: the
    standard deviation (0 where it does not act) and the taps on each side.

    Args:
        p: Probability.
        radius: Range of the standard deviation in pixels.

    Raises:
        ValueError: If the range is empty or not positive.
    """

    width = 2

    def __init__(self, p: float = 0.5, radius: Sequence[float] = (0.1, 2.0)) -> None:
        self.p = check_probability(p, "GaussianBlur")
        self.low, self.high = (float(r) for r in radius)
        if not 0.0 < self.low <= self.high:
            raise ValueError(f"GaussianBlur: radius must be 0 < low <= high, got {radius}")
        self.half = max(1, math.ceil(_CUT * self.high))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the standard deviation in pixels; 0 means no blur."""
        chance, place = rng.random(2)
        sigma = self.low + (self.high - self.low) * place if chance < self.p else 0.0
        return np.array([sigma, self.half], dtype=np.float32)

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Blur the rows that drew it; see :meth:`ViewOp.apply`."""
        side = images.shape[-1]
        active = params[:, 0] > 0
        rows = rows_where(active, images)
        if rows is None or side < 2:
            return images
        # The longest kernel is read on the host, the matrices are built on the device.
        reach = min(int(params[:, 1].max()), side - 1)
        sigma, half = params[active].to(images.device, non_blocking=True).unbind(1)
        matrices = blur_matrices(sigma, half, reach, side).unsqueeze(1)
        part = matrices @ images.index_select(0, rows) @ matrices.mT
        return images.index_copy_(0, rows, part)

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return Pillow's blur of a radius drawn from torch's generator."""
        return v2.RandomApply([_PillowBlur(self.low, self.high)], p=self.p)


class _PillowBlur(torch.nn.Module):
    """Pillow's blur; a module because ``RandomApply`` takes modules."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Image.Image) -> Image.Image:
        """Blur one image."""
        radius = float(torch.empty(1).uniform_(self.low, self.high))
        return image.filter(ImageFilter.GaussianBlur(radius))
