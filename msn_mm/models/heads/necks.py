"""mmpretrain's projectors and predictors in our methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.registry import MODELS, SCOPE


def build_neck(neck: Mapping[str, Any], width: int, name: str = "neck") -> nn.Module:
    """Build a neck of mmpretrain (``NonLinearNeck``) that reads vectors.

    Its ``norm_cfg`` may name what is registered here, such as
    :class:`~msn_mm.models.ops.sync_batch_norm.SyncBatchNorm`, whatever the current scope.

    Args:
        neck: Its config; ``in_channels`` may be left out.
        width: What it is to read.
        name: Where in the model's config it stands, for what a user is told.

    Raises:
        UserError: If its ``in_channels`` is not ``width``.
    """
    asked = neck.get("in_channels", width)
    if asked != width:
        raise UserError(
            f"model.{name}.in_channels is {asked} and what it reads is {width} wide; leave it out"
        )
    return MODELS.build({**neck, "in_channels": width, "_scope_": SCOPE})


def project(neck: nn.Module, x: Tensor) -> Tensor:
    """``(B, D)`` -> ``(B, P)`` by a neck of mmpretrain, which takes and gives tuples."""
    return neck((x,))[0]


def width_of(backbone: nn.Module) -> int:
    """Return how wide a backbone's representations are.

    Raises:
        UserError: If it does not say so.
    """
    width = getattr(backbone, "embed_dim", None)
    if width is None:
        raise UserError(
            f"backbone {type(backbone).__name__} does not say its width; take "
            "type='PlainResNet' or 'MaskedViT'"
        )
    return int(width)
