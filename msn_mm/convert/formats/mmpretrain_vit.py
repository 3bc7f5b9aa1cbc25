"""mmpretrain's ``VisionTransformer``, below ``backbone.`` of a model or by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.architecture import heads_of
from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, count_blocks, rename
from msn_mm.convert.formats.mocov3_vit import mocov3_heads
from msn_mm.convert.timm_names import is_vit, read_vit, within, wrapped
from msn_mm.convert.vit import settings

_PARTS = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "attn.gamma1": "ls1",
    "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
    "ffn.gamma2": "ls2",
    "ffn.w12": "mlp.fc1",
    "ffn.w3": "mlp.fc2",
}
_OUTSIDE = {
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
    "patch_embed.projection.weight": "patch_embed.proj.weight",
    "patch_embed.projection.bias": "patch_embed.proj.bias",
    "pre_norm.weight": "norm_pre.weight",
    "pre_norm.bias": "norm_pre.bias",
    "ln1.weight": "norm.weight",
    "ln1.bias": "norm.bias",
    "ln2.weight": "fc_norm.weight",
    "ln2.bias": "fc_norm.bias",
}
_HEADS = ("head.layers.head.", "head.fc.")
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")


@FORMATS.register_module()
class MMPretrainViT(Format):
    """ViTs of mmpretrain: classifiers, and self-supervised models such as its MAE and MoCo v3.

    mmpretrain's ``small`` is 768 wide with 8 blocks and 8 heads; its MoCo v3 has
    12 heads at a width of 384.
    """

    name = "mmpretrain_vit"
    verified = (
        "mmpretrain 1.2.0, installed: models/backbones/vision_transformer.py, "
        "models/selfsup/mocov3.py, models/heads/vision_transformer_head.py"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the backbone is a ViT in mmpretrain's names."""
        return is_vit(_canonical(_backbone(raw))[0])

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read backbone and classification head."""
        whole = wrapped(raw, "state_dict", "")
        state, left = _canonical(_backbone(raw))
        if any(key.startswith("backbone.") for key in whole):
            left = [f"backbone.{key}" for key in left]
            for prefix in _HEADS:
                head = {f"head.{part}": whole.get(prefix + part) for part in ("weight", "bias")}
                state |= {key: value for key, value in head.items() if value is not None}
            heads = {prefix + part for prefix in _HEADS for part in ("weight", "bias")}
            left += [k for k in whole if not k.startswith("backbone.") and k not in heads]
        depth = count_blocks(state, "blocks.")
        is_mocov3 = any(key.startswith("momentum_encoder.") for key in whole)

        def heads_here(width: int) -> int:
            if (width, depth) == (768, 8):
                return 8
            return mocov3_heads(width) if is_mocov3 else heads_of(width)

        return read_vit(
            self.name,
            raw,
            state,
            resampling="scale",
            arch=settings(arch),
            heads=heads_here,
            ignored=left,
        )


def _backbone(raw: RawCheckpoint) -> dict[str, Tensor]:
    whole = wrapped(raw, "state_dict", "")
    return within(whole, "backbone.") or whole


def _canonical(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    return rename(state, _name)


def _name(key: str) -> str | None:
    found = _LAYER.fullmatch(key)
    if found is None:
        return _OUTSIDE.get(key)
    number, part, kind = found.groups()
    if part not in _PARTS:
        return None
    if _PARTS[part].startswith("ls"):
        kind = "gamma"
    return f"blocks.{number}.{_PARTS[part]}.{kind}"
