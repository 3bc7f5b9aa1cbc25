"""MoCo v3 with a ViT: pre-training and linear-evaluation checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.architecture import heads_of
from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.timm_names import is_vit, read_vit, within, wrapped
from msn_mm.convert.vit import settings

NETWORKS = ("base_encoder", "momentum_encoder")


def mocov3_heads(width: int) -> int:
    """Return the attention heads of MoCo v3's ViTs: 12 for the small one, not 6."""
    return 12 if width == 384 else heads_of(width)


@FORMATS.register_module()
class MoCoV3ViT(Format):
    """MoCo v3's ViTs (Chen et al. 2021, https://arxiv.org/abs/2104.02057).

    Reads the base encoder, as the original evaluates it, unless ``arch`` has
    ``network="momentum_encoder"``.
    """

    name = "mocov3_vit"
    priority = 10
    verified = (
        "facebookresearch/moco-v3 vits.py @ 1c6b717e5591bc11ce8a0c093dcdedcd6dc07ca6, "
        "moco/builder.py @ 0c5d00a3d5136367b7bb3b98c2f77765ea6da37e, "
        "main_lincls.py @ 2877a788f92aa762f4049ec1d5160b1410c75322"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether it has a base encoder, or is a linear classifier that names its ViT."""
        state = wrapped(raw, "state_dict")
        if is_vit(within(state, "base_encoder.")):
            return True
        named = str(raw.content.get("arch", "")).startswith("vit_")
        return named and is_vit(state)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read one of the encoders, or the classifier."""
        state = wrapped(raw, "state_dict")
        there = [name for name in NETWORKS if within(state, f"{name}.")]
        wanted = settings(arch, there).get("network") or (there[0] if there else None)
        left = [key for key in state if wanted and not key.startswith(f"{wanted}.")]
        network = within(state, f"{wanted}.") if wanted else state
        return read_vit(
            self.name,
            raw,
            network,
            resampling="scale",
            arch=arch,
            heads=mocov3_heads,
            ignored=left,
        )
