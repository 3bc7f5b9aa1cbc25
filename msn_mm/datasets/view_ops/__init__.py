"""Augmentations in two halves: numbers drawn in the worker, pixels changed on the device."""

from msn_mm.datasets.view_ops.base import ViewOp, find_op
from msn_mm.datasets.view_ops.blur import GaussianBlur
from msn_mm.datasets.view_ops.colour import ColorJitter, Grayscale
from msn_mm.datasets.view_ops.elastic import ElasticWarp
from msn_mm.datasets.view_ops.geometry import HorizontalFlip, Rotation, Shear
from msn_mm.datasets.view_ops.solarize import Solarize

__all__ = [
    "ColorJitter",
    "ElasticWarp",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "Rotation",
    "Shear",
    "Solarize",
    "ViewOp",
    "find_op",
]
