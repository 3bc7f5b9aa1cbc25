"""iBOT: training checkpoints with teacher and student, and student backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.formats.dino import NETWORKS, backbone_of, pick_network
from msn_mm.convert.timm_names import is_vit, read_vit


@FORMATS.register_module()
class IBot(Format):
    """iBOT's ViTs (Zhou et al. 2021, https://arxiv.org/abs/2111.07832).

    Reads the teacher unless ``arch`` has ``network="student"``. The backbone of
    a teacher alone is the same file as DINO's and is recognised as such.
    """

    name = "ibot"
    priority = 10
    verified = (
        "bytedance/ibot models/vision_transformer.py, models/head.py, "
        "evaluation/classification_layer_decay/extract_backbone_weights.py "
        "@ c24f870dc85c0322200e66399c05af193b8c9554, main_ibot.py "
        "@ 564f363d52830fecb416e472ca371e35ea1b5869"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether a ViT comes with iBOT's mask embedding, second head or loss."""
        if _is_ibot(strip_prefixes(raw.tensors(), ["module.", "backbone."])):
            return True
        backbones = [backbone_of(raw.tensors(name)) for name in NETWORKS]
        if not any(is_vit(state) for state in backbones):
            return False
        heads = [key for name in NETWORKS for key in raw.tensors(name) if "last_layer2." in key]
        return "ibot_loss" in raw.content or bool(heads) or any(map(_is_ibot, backbones))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the backbone."""
        found, left = pick_network(raw, arch)
        state = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key): v for key, v in found.items()}
        return read_vit(self.name, raw, state, resampling="dino", arch=arch, ignored=left)


def _is_ibot(state: Mapping[str, Tensor]) -> bool:
    return "masked_embed" in state and is_vit(state)
