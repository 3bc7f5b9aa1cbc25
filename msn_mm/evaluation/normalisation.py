"""Which mean and deviation a model's pixels want, and in which order its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def normalisation_of(
    model: nn.Module, trunk: nn.Module, configured: Mapping[str, Any] | None
) -> MultiViewPreprocessor:
    """The model's own normalisation, else the config's, else ImageNet's.

    Raises:
        UserError: The config gives only one of mean and std, or not one value a channel.
    """
    own = getattr(model, "data_preprocessor", None)
    if isinstance(own, MultiViewPreprocessor):
        return own
    mean, std = getattr(own, "mean", None), getattr(own, "std", None)
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        means, stds = mean.flatten().tolist(), std.flatten().tolist()
        if wants_bgr(model):
            means, stds = means[::-1], stds[::-1]
    else:
        means, stds = _given(configured or {}) or (list(IMAGENET_MEAN), list(IMAGENET_STD))
    channels = _in_channels(trunk) or len(means)
    means, stds = (v * channels if len(v) == 1 else v for v in (means, stds))
    for key, values in (("mean", means), ("std", stds)):
        if len(values) != channels:
            raise UserError(
                f"the backbone takes {channels} channel(s) and data_preprocessor.{key} has "
                f"{len(values)} values; give mean and std one value a channel"
            )
    return MultiViewPreprocessor(means, stds)


def _given(configured: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    mean, std = configured.get("mean"), configured.get("std")
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        has, lacks = ("std", "mean") if mean is None else ("mean", "std")
        raise UserError(
            f"data_preprocessor has {has} and no {lacks}; give both, one value a channel"
        )
    return list(mean), list(std)


def wants_bgr(model: nn.Module) -> bool:
    """Whether a model of mmpretrain was trained on images as OpenCV reads them, BGR."""
    own = getattr(model, "data_preprocessor", None)
    if not isinstance(own, ImgDataPreprocessor | BaseDataPreprocessor):
        return False
    if not isinstance(getattr(own, "mean", None), Tensor) or own.mean.numel() != 3:
        return False
    turns = getattr(own, "to_rgb", getattr(own, "_channel_conversion", None))
    return turns is False and not isinstance(own, MultiViewPreprocessor)


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> dict[str, list[float]]:
    """Bring a normalisation on [0, 1] to pixels from 0 to 255."""
    return {"mean": [round(255 * m, 6) for m in mean], "std": [round(255 * s, 6) for s in std]}


def _in_channels(trunk: nn.Module) -> int | None:
    # Not the trunk's own attribute first: some use it to count while they build.
    convolutions = (m for m in trunk.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    if first is not None:
        return first.in_channels
    for name in ("in_chans", "in_channels"):
        value = getattr(trunk, name, None)
        if isinstance(value, int):
            return value
    return None
