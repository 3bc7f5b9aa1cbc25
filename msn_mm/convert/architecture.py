"""What a trunk is built like, told by its weights' names and shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from msn_mm.errors import UserError
from msn_mm.models.ops.position import Resampling
from msn_mm.registry import MODELS

# Heads leave no trace in the weights; the published models have these.
_HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}


class Architecture(Protocol):
    """Builds the empty trunk that a converted state dict fits."""

    def build(self) -> nn.Module:
        """Return the trunk with weights yet to be loaded."""

    def describe(self) -> str:
        """Return the architecture in a few words, for a user."""


def heads_of(width: int) -> int:
    """Return the attention heads of the published ViT of a width.

    Raises:
        UserError: No published ViT has that width.
    """
    if width not in _HEADS_OF_WIDTH:
        raise UserError(
            f"the attention heads of a ViT of width {width} cannot be told from its weights; "
            "give arch=dict(heads=...)"
        )
    return _HEADS_OF_WIDTH[width]


@dataclass(frozen=True)
class ViTArchitecture:
    """A plain ViT with a CLS token, as :class:`~msn_mm.models.MaskedViT` builds it.

    The trunk's state dict has the names of timm's ``VisionTransformer`` below
    ``vit.``.

    Attributes:
        width: D.
        depth: Blocks.
        heads: Attention heads of a block.
        patch: Side of a patch in pixels.
        image_size: Side in pixels that the learned positions belong to.
        channels: C.
        resampling: How the original resamples its positions to another grid.
        options: Further arguments of timm's ``VisionTransformer`` (``mlp_ratio``,
            ``reg_tokens``, ``init_values``, ``no_embed_class``, ...), and
            ``name`` of a timm model other than the plain ViT.
    """

    width: int
    depth: int
    heads: int
    patch: int
    image_size: int
    channels: int = 3
    resampling: Resampling = "scale"
    options: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """Return the trunk's config, ready for ``model.backbone``."""
        config: dict[str, Any] = dict(
            type="MaskedViT",
            name="vit_small_patch16_224",
            img_size=self.image_size,
            patch_size=self.patch,
            in_chans=self.channels,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
        )
        if self.resampling != "scale":
            config["resampling"] = self.resampling
        return config | dict(self.options)

    def build(self) -> nn.Module:
        """Return an empty ``MaskedViT``."""
        return MODELS.build(self.config())

    def describe(self) -> str:
        """Return the architecture in a few words."""
        registers = self.options.get("reg_tokens", 0)
        more = f", {registers} registers" if registers else ""
        return (
            f"ViT of width {self.width}, depth {self.depth}, {self.heads} heads, patch "
            f"{self.patch}, {self.image_size} x {self.image_size} pixels, "
            f"{self.channels} channels{more}"
        )
