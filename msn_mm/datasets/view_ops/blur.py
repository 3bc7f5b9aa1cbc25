"""Gaussian blur with a width of its own for each view."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, change_rows, check_probability
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.registry import VIEW_OPS

# The kernel is cut at so many standard deviations of the widest blur in range.
_CUT = 3.0
# Pixels blurred by one product; fewer would be too small a product, more too many zeros.
_BLOCK = 32
# Standard deviations behind which a weight is lost in the rounding of float32.
_SEEN = 6.0


def kernels(sigma: np.ndarray, half: np.ndarray, reach: int) -> np.ndarray:
    """Return one half of each Gaussian kernel.

    Args:
        sigma: float32 (R,) standard deviation in pixels, positive.
        half: float32 (R,) taps on each side of the centre.
        reach: Largest number of taps on a side that is looked at.

    Returns:
        float32 (R, reach + 2): the weights of the centre and of the pixels 1 ... reach
        away, then 0 for those further away. Both halves sum to 1.
    """
    taps = np.arange(reach + 2, dtype=np.float32)
    weights = np.exp(-0.5 * (taps / sigma[:, None]) ** 2) * (taps <= half[:, None])
    weights[:, -1] = 0.0
    return weights / (2 * weights.sum(1, keepdims=True) - weights[:, :1])


@lru_cache(maxsize=16)
def _distances(reach: int, device: torch.device) -> Tensor:
    """How far each pixel of a piece is from each one blurred, at most reach + 1, flat."""
    source = torch.arange(_BLOCK + 2 * reach, device=device)
    distance = source - reach - source[:_BLOCK, None]
    return distance.abs_().clamp_(max=reach + 1).flatten()


def blur(images: Tensor, weights: Tensor) -> Tensor:
    """Blur along rows and columns, borders reflected.

    Some pixels of all lines at a time are one small matrix product for the whole
    batch: a sigma for each image costs nothing, and few of the products are with
    zero, as most are in a matrix over whole lines.

    Args:
        images: float32 (R, C, S, S).
        weights: float32 (R, reach + 2) on their device, from :func:`kernels`;
            reach below S.

    Returns:
        float32 (R, C, S, S).
    """
    rows, channels, side, _ = images.shape
    reach = weights.shape[1] - 2
    # (R, block, block + 2 reach): what a block takes from the piece around it.
    bands = weights.index_select(1, _distances(reach, images.device)).view(rows, _BLOCK, -1)
    spans = [(at, min(at + _BLOCK, side)) for at in range(0, side, _BLOCK)]
    wide = side + 2 * reach
    padded = F.pad(images, (reach,) * 4, mode="reflect").view(rows * channels, wide, wide)
    across = images.new_empty(rows * channels, side, wide)
    of_channel = bands.repeat_interleave(channels, 0, output_size=rows * channels)
    for at, end in spans:
        band = of_channel[:, : end - at, : end - at + 2 * reach]
        torch.bmm(band, padded[:, at : end + 2 * reach], out=across[:, at:end])
    across = across.view(rows, channels * side, wide)
    out = images.new_empty(rows, channels * side, side)
    for at, end in spans:
        band = bands.mT[:, : end - at + 2 * reach, : end - at]
        torch.bmm(across[..., at : end + 2 * reach], band, out=out[..., at:end])
    return out.view_as(images)


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
        if images.shape[-1] < 2:
            return images
        return change_rows(images, params, params[:, 0] > 0, _blur_rows)

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Blur one view; see :meth:`ViewOp.on_host`."""
        if params[0] > 0 and view.side > 1:
            sigma = float(params[0])
            reach = min(int(params[1]), view.side - 1, math.ceil(_SEEN * sigma))
            kernel = cv2.getGaussianKernel(2 * reach + 1, sigma, cv2.CV_32F)
            view.commute(partial(_filtered, kernel=kernel))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return Pillow's blur of a radius drawn from torch's generator."""
        return v2.RandomApply([_PillowBlur(self.low, self.high)], p=self.p)


def _blur_rows(images: Tensor, params: Tensor) -> Tensor:
    sigma, half = params.numpy().T
    # Reflected borders reach as far as the other side.
    reach = min(int(half.max()), images.shape[-1] - 1)
    weights = torch.from_numpy(kernels(sigma, half, reach))
    return blur(images, weights.to(images.device, non_blocking=True))


def _filtered(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    border = cv2.BORDER_REFLECT_101
    return cv2.sepFilter2D(pixels, cv2.CV_32F, kernel, kernel, borderType=border)


class _PillowBlur(torch.nn.Module):
    """Pillow's blur; a module because ``RandomApply`` takes modules."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Image.Image) -> Image.Image:
        """Blur one image."""
        radius = float(torch.empty(1).uniform_(self.low, self.high))
        return image.filter(ImageFilter.GaussianBlur(radius))
