"""Geometry: flip, rotation, shear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from msn_mm.datasets.view_ops.base import ViewOp, change_rows, check_probability
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.registry import VIEW_OPS


def _range(degrees: float | Sequence[float], op: str) -> tuple[float, float]:
    low, high = (-degrees, degrees) if isinstance(degrees, (int, float)) else degrees
    if not low <= high:
        raise ValueError(f"{op}: degrees must be a range low <= high, got {degrees}")
    return float(low), float(high)


def warp(images: Tensor, matrices: Tensor, active: Tensor) -> Tensor:
    """Resample rows by matrices about the centre, bilinear, borders repeated.

    Args:
        images: float32 (N, C, S, S), changed in place.
        matrices: (N, 2, 2), on the host; where an output pixel (x, y) reads from.
        active: bool (N,), on the host; rows to change.

    Returns:
        float32 (N, C, S, S).
    """

    def resample(part: Tensor, matrices: Tensor) -> Tensor:
        theta = F.pad(matrices, (0, 1)).to(part.device, non_blocking=True)
        grid = F.affine_grid(theta, list(part.shape), align_corners=False)
        return F.grid_sample(part, grid, padding_mode="border", align_corners=False)

    return change_rows(images, matrices, active, resample)


@VIEW_OPS.register_module()
class HorizontalFlip(ViewOp):
    """Mirror left and right with probability p. Numbers of one view: 1 where it acts, else 0.

    Args:
        p: Probability.
    """

    width = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability(p, "HorizontalFlip")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw whether the view is mirrored."""
        return np.array([rng.random() < self.p], dtype=np.float32)

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Mirror the rows that drew it; see :meth:`ViewOp.apply`."""
        return change_rows(images, params, params[:, 0] > 0.5, lambda part, _: part.flip(-1))

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Mirror one view; see :meth:`ViewOp.on_host`."""
        if params[0] > 0.5:
            view.commute(lambda pixels: cv2.flip(pixels, 1))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's random flip."""
        return v2.RandomHorizontalFlip(p=self.p)


class _AngleOp(ViewOp):
    """An operation of one random angle. Numbers of one view: the angle in degrees (0: none)."""

    width = 1

    def __init__(self, degrees: float | Sequence[float], p: float = 1.0) -> None:
        self.p = check_probability(p, type(self).__name__)
        self.low, self.high = _range(degrees, type(self).__name__)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the angle in degrees."""
        chance, place = rng.random(2)
        angle = self.low + (self.high - self.low) * place if chance < self.p else 0.0
        return np.array([angle], dtype=np.float32)

    def _padded(self, transform: torch.nn.Module) -> Callable[[Image.Image], Image.Image]:
        # torchvision has no repeated border when it warps, so give it one to
        # warp from and cut it off again.
        return v2.RandomApply([_EdgePadded(transform)], p=self.p)


@VIEW_OPS.register_module()
class Rotation(_AngleOp):
    """Rotate about the centre, bilinear, borders repeated.

    Args:
        degrees: Range of the angle, counter-clockwise, or x for [-x, x].
        p: Probability.
    """

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Rotate the rows that drew an angle; see :meth:`ViewOp.apply`."""
        angle = torch.deg2rad(params[:, 0])
        cos, sin = angle.cos(), angle.sin()
        matrices = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
        return warp(images, matrices, params[:, 0] != 0)

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's rotation."""
        turn = v2.RandomRotation((self.low, self.high), interpolation=InterpolationMode.BILINEAR)
        return self._padded(turn)


@VIEW_OPS.register_module()
class Shear(_AngleOp):
    """Shear horizontally about the centre, bilinear, borders repeated.

    Args:
        degrees: Range of the angle, or x for [-x, x]; within (-90, 90).
        p: Probability.

    Raises:
        ValueError: If the range reaches 90 degrees.
    """

    def __init__(self, degrees: float | Sequence[float], p: float = 1.0) -> None:
        super().__init__(degrees, p)
        if self.low <= -90.0 or self.high >= 90.0:
            raise ValueError(f"Shear: degrees must lie within (-90, 90), got {degrees}")

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Shear the rows that drew an angle; see :meth:`ViewOp.apply`."""
        slope = torch.deg2rad(params[:, 0]).tan()
        one, zero = torch.ones_like(slope), torch.zeros_like(slope)
        matrices = torch.stack([one, slope, zero, one], dim=1).view(-1, 2, 2)
        return warp(images, matrices, params[:, 0] != 0)

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's shear along x."""
        affine = v2.RandomAffine(
            degrees=0.0,
            shear=(self.low, self.high),
            interpolation=InterpolationMode.BILINEAR,
        )
        return self._padded(affine)


class _EdgePadded(torch.nn.Module):
    """Run a transform inside a border of repeated edge pixels, wide enough for any rotation."""

    def __init__(self, transform: torch.nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: Image.Image) -> Image.Image:
        """Transform one image."""
        border = math.ceil(max(image.size) / 2)
        image_ = v2.functional.pad(image, [border], padding_mode="edge")
        return v2.functional.center_crop(self.transform(image_), [image.height, image.width])
