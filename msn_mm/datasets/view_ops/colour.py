"""Colour: jitter and grey.

Shapes: N views, C channels, S side, R rows that an operation acts on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, change_rows, check_probability
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.registry import VIEW_OPS

# Luma of ITU-R BT.601, rounded as torchvision rounds it.
_LUMA = (0.2989, 0.587, 0.114)
_LUMA_ROW = np.array(_LUMA)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
# Keeps a quotient finite where there is no colour to divide by.
_TINY = 1e-12


def grey(images: Tensor) -> Tensor:
    """Return the luma (N, 1, S, S) of RGB images (N, 3, S, S), any other images as they are."""
    if not _has_colour(images):
        return images
    red, green, blue = images.unbind(1)
    luma = red * _LUMA[0]
    return luma.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def _has_colour(images: Tensor) -> bool:
    # Of two channels, or five, none is red: each is a grey image of its own.
    return images.shape[1] == 3


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every image through HSV space.

    Exact, and without a mask: with the largest channel M, the smallest m and the
    chroma M - m, the distance of a hue from red on the colour circle is
    (M - 2m - R + G + B) / chroma sixths of a turn, on green's side where G > B.
    A channel lies the chroma below M where the hue is two sixths or more from the
    channel's own colour, at M within one sixth, and falls evenly in between.

    Args:
        images: float32 (R, 3, S, S) in [0, 1].
        shift: (R,) in turns of the colour circle, [-0.5, 0.5].

    Returns:
        float32 (R, 3, S, S).
    """
    red, green, blue = images.unbind(1)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = torch.maximum(red, green)
    torch.maximum(chroma, blue, out=chroma).sub_(low)
    # One chroma below the smallest channel: what the fall is counted up from.
    base = low.sub_(chroma)
    hue = (red + green).add_(blue).sub_(base).sub_(red, alpha=2)
    torch.copysign(hue, green - blue, out=hue).div_(chroma + _TINY)
    # Distance to red, green and blue, which lie at 0, 2 and 4 sixths; counted on
    # the device: a list copied there would wait for it.
    own = 2 * torch.arange(3, device=images.device)
    turn = torch.remainder(6 * shift[:, None] - own + 3, 6) - 3
    far = hue.unsqueeze(1) + turn[..., None, None]
    # |far| beyond half a turn is nearer the other way round: 3 - ||far| - 3|.
    far.abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.addcmul(base.unsqueeze(1), chroma.unsqueeze(1), far, out=far)


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

    The four and their order follow torchvision's ``ColorJitter``. Images of other than
    three channels have no saturation and no hue; all their channels are made brighter by
    the same factor, and each gets its contrast about its own mean. Numbers of one
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
        neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
        return change_rows(images, params, (params[:, 4:] != neutral).any(1), _jitter)

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Jitter one view; see :meth:`ViewOp.on_host`."""
        for step in params[:4].astype(int).tolist():
            factor = float(params[4 + step])
            if step == _HUE and factor != 0:
                view.change(partial(_turn_hue, turn=factor))
            elif step != _HUE and factor != 1:
                view.blend(factor, _other(view, step))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's jitter, applied with probability p."""
        names = ("brightness", "contrast", "saturation", "hue")
        spans = zip(names, self.low.tolist(), self.high.tolist(), strict=True)
        jitter = v2.ColorJitter(**{name: (low, high) for name, low, high in spans})
        return v2.RandomApply([jitter], p=self.p)


def _jitter(images: Tensor, params: Tensor) -> Tensor:
    """Jitter images (R, C, S, S), in place where that is possible.

    Hue is turned once for all rows: each makes the steps that it drew before hue,
    then hue, then the others.
    """
    has_colour = _has_colour(images)
    steps, turn = _plan(params.numpy(), has_colour)
    needed = np.asarray(steps.any(2))
    clamped = (steps[0] > 0).any(1)
    on_device = torch.from_numpy(steps).to(images.device, non_blocking=True)
    # One number an image, (6, R, 1, 1, 1).
    more, of_luma, of_mean = on_device[..., None, None, None].unbind()
    for step in range(6):
        if step == 3 and turn.any():
            images = shift_hue(images, torch.from_numpy(turn).to(images.device, non_blocking=True))
        if not needed[0, step]:
            continue
        # Both others are those of the image as it was before the step.
        luma = grey(images) if needed[1, step] else None
        mean = grey(images.mean((2, 3), keepdim=True)) if needed[2, step] else None
        images.mul_(1 + more[step])
        if luma is not None:
            images.addcmul_(of_luma[step], luma)
        if mean is not None:
            images.add_(of_mean[step] * mean)
        if clamped[step]:
            images.clamp_(0, 1)
    return images


def _plan(params: np.ndarray, has_colour: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the steps of R images so that all turn their hue at one time.

    Brightness, contrast and saturation blend an image with black, its mean luma or
    the luma of each pixel: ``f * x + (1 - f) * other``. A factor f above 1 can leave
    [0, 1].

    Returns:
        float32 (3, 6, R): for three steps before hue and three after it f - 1 and
        the shares 1 - f of the pixel's luma and of the mean luma, 0 where an image
        has no such step; and (R,), the turn of the hue.
    """
    order, factors = params[:, :4].astype(np.int64), params[:, 4:]
    if not has_colour:
        factors = np.where([False, False, True, True], np.array([1, 1, 1, 0], np.float32), factors)
    more = np.where(order == _HUE, 0, np.take_along_axis(factors, order, 1) - 1)
    is_before = np.arange(4) < (order == _HUE).argmax(1)[:, None]
    more = np.hstack([(more * is_before)[:, :3], (more * ~is_before)[:, 1:]]).T
    which = np.hstack([order[:, :3], order[:, 1:]]).T
    shares = [-more * (which == kind) for kind in (_SATURATION, _CONTRAST)]
    return np.stack([more, *shares]).astype(np.float32), np.ascontiguousarray(factors[:, _HUE])


def _other(view: HostView, step: int) -> np.ndarray | float:
    """What a step blends a view with, as a function of its stored pixels."""
    if step == _BRIGHTNESS:
        return 0.0
    luma = _LUMA_ROW @ view.affine
    return luma if step == _SATURATION else np.array([0.0, 0.0, 0.0, view.mean_of(luma)])


def _turn_hue(pixels: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue of float32 (S, S, 3) by part of a turn; OpenCV counts in degrees, upwards."""
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), dtype=np.float32)
    hsv[..., 0] += 360 * (turn % 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


@VIEW_OPS.register_module()
class Grayscale(ViewOp):
    """Replace colour by luma (ITU-R BT.601) with probability p; acts on three channels alone.

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
        if not _has_colour(images):
            return images
        return change_rows(images, params, params[:, 0] > 0.5, _grey_rows)

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Turn one view grey; see :meth:`ViewOp.on_host`."""
        if params[0] > 0.5:
            view.blend(0.0, _other(view, _SATURATION))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's random grey."""
        return v2.RandomGrayscale(p=self.p)


def _grey_rows(images: Tensor, params: Tensor) -> Tensor:
    return images.copy_(grey(images))
