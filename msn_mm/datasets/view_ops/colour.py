"""Colour: jitter and grey.

Shapes: N views, C channels, S side, R rows that an operation acts on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, check_probability, rows_where
from msn_mm.registry import VIEW_OPS

# Luma of ITU-R BT.601, rounded as torchvision rounds it.
_LUMA = (0.2989, 0.587, 0.114)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def grey(images: Tensor) -> Tensor:
    """Return the luma (N, 1, S, S) of images (N, C, S, S); C is 1 or 3.

    Raises:
        ValueError: For any other number of channels.
    """
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        raise ValueError(
            f"colour operations know 1 or 3 channels, got images of {images.shape[1]}; "
            "take ColorJitter and Grayscale out of the views"
        )
    red, green, blue = images.unbind(1)
    luma = red * _LUMA[0]
    return luma.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every image through HSV space.

    Args:
        images: float32 (R, 3, S, S) in [0, 1].
        shift: (R,) in turns of the colour circle, [-0.5, 0.5].

    Returns:
        float32 (R, 3, S, S).
    """
    red, green, blue = images.unbind(1)
    top = images.amax(1)
    chroma = top - images.amin(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    # Hue in sixths of a turn: which channel is on top, and what lies below it.
    sixth = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixth = sixth + 6.0 * shift[:, None, None]
    # A channel falls from the top by the chroma along a trapezium of the hue
    # distance to it; the offsets 5, 3, 1 are red, green and blue. Counted on the
    # device: a list copied there would wait for it.
    offsets = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)
    place = torch.remainder(offsets + sixth.unsqueeze(1), 6.0)
    fall = torch.minimum(place, 4.0 - place).clamp_(0.0, 1.0)
    return top.unsqueeze(1) - chroma.unsqueeze(1) * fall


def _span(value: float | Sequence[float], name: str, centre: float, bound: float) -> list[float]:
    """Return the range [low, high] that torchvision's ColorJitter means by ``value``."""
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"ColorJitter: {name} must not be negative, got {value}")
        low, high = centre - value, centre + value
        low = max(low, 0.0) if centre == 1.0 else low
    else:
        low, high = (float(v) for v in value)
    if not centre - bound <= low <= high <= (centre + bound if centre == 0.0 else float("inf")):
        raise ValueError(f"ColorJitter: {name} has no valid range, got {value}")
    return [float(low), float(high)]


@VIEW_OPS.register_module()
class ColorJitter(ViewOp):
    """Brightness, contrast, saturation and hue, in a random order of the four.

    The four and their order follow torchvision's ``ColorJitter``. Numbers of one
    view: the order (4 columns, which adjustment comes k-th), then the four
    factors; adjustments that do nothing have factor 1 (hue: 0).

    Args:
        brightness: Factor range, or x for [max(0, 1 - x), 1 + x].
        contrast: The same, about the mean luma of the view.
        saturation: The same, about the luma of each pixel.
        hue: Shift range in turns within [-0.5, 0.5], or x for [-x, x].
        p: Probability that the view is jittered at all.

    Raises:
        ValueError: If a range is empty or outside its bounds.
    """

    width = 8

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
        p: float = 1.0,
    ) -> None:
        self.p = check_probability(p, "ColorJitter")
        spans = [
            _span(brightness, "brightness", 1.0, 1.0),
            _span(contrast, "contrast", 1.0, 1.0),
            _span(saturation, "saturation", 1.0, 1.0),
            _span(hue, "hue", 0.0, 0.5),
        ]
        self.low = np.array([low for low, _ in spans])
        self.high = np.array([high for _, high in spans])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw order (4) and factors (4); see the class."""
        uniform = rng.random(9)
        params = np.array([0, 1, 2, 3, 1, 1, 1, 0], dtype=np.float32)
        if uniform[8] < self.p:
            params[:4] = uniform[:4].argsort()
            params[4:] = self.low + (self.high - self.low) * uniform[4:8]
        return params

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Jitter the rows whose factors are not all neutral; see :meth:`ViewOp.apply`."""
        order = params[:, :4].round().to(torch.int64)
        factors = params[:, 4:]
        neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
        active = (factors != neutral).any(1)
        rows = rows_where(active, images)
        if rows is None:
            return images
        order, factors = order[active], factors[active]
        # Gathering is a copy of its own; skip it where all rows take part.
        whole = bool(active.all())
        part = images if whole else images.index_select(0, rows)
        for step in range(4):
            part = _jitter_step(part, order[:, step], factors)
        return part if whole else images.index_copy_(0, rows, part)

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's jitter, applied with probability p."""
        names = ("brightness", "contrast", "saturation", "hue")
        spans = zip(names, self.low.tolist(), self.high.tolist(), strict=True)
        jitter = v2.ColorJitter(**{name: (low, high) for name, low, high in spans})
        return v2.RandomApply([jitter], p=self.p)


def _jitter_step(images: Tensor, which: Tensor, factors: Tensor) -> Tensor:
    """Apply to each image (R, C, S, S) its own adjustment ``which`` (R,) of the four.

    Brightness, contrast and saturation are one blend, ``f * x + (1 - f) * other``,
    with black, the mean luma, or the luma of the pixel as the other; rows whose
    turn it is for hue blend with f = 1, that is, not at all.
    """
    factor = factors.gather(1, which[:, None]).squeeze(1)
    is_hue = which == _HUE
    factor = torch.where(is_hue, torch.ones_like(factor), factor)
    coefficients = torch.stack(
        [
            factor,
            (1 - factor) * (which == _SATURATION),
            (1 - factor) * (which == _CONTRAST),
        ]
    ).to(images.device, non_blocking=True)[..., None, None, None]
    luma = grey(images)
    mean = luma.mean((1, 2, 3), keepdim=True)
    other = torch.addcmul(coefficients[2] * mean, luma, coefficients[1])
    images = torch.addcmul(other, images, coefficients[0]).clamp_(0.0, 1.0)
    if images.shape[1] == 1:
        return images
    turning = is_hue & (factors[:, _HUE] != 0)
    rows = rows_where(turning, images)
    if rows is not None:
        shift = factors[turning, _HUE].to(images.device, non_blocking=True)
        turned = shift_hue(images.index_select(0, rows), shift)
        images.index_copy_(0, rows, turned)
    return images


@VIEW_OPS.register_module()
class Grayscale(ViewOp):
    """Replace colour by luma (ITU-R BT.601) with probability p; nothing to do on one channel.

    Numbers of one view: 1 where it acts, else 0.

    Args:
        p: Probability.
    """

    width = 1

    def __init__(self, p: float = 0.2) -> None:
        self.p = check_probability(p, "Grayscale")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw whether the view turns grey."""
        return np.array([rng.random() < self.p], dtype=np.float32)

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Turn the rows grey that drew it; see :meth:`ViewOp.apply`."""
        if images.shape[1] == 1:
            return images
        rows = rows_where(params[:, 0] > 0.5, images)
        if rows is None:
            return images
        luma = grey(images.index_select(0, rows))
        return images.index_copy_(0, rows, luma.expand(-1, images.shape[1], -1, -1))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's random grey."""
        return v2.RandomGrayscale(p=self.p)
