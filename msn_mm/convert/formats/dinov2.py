"""DINOv2: released backbones with and without registers, and training checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.formats.dino import NETWORKS, backbone_of, pick_network
from msn_mm.convert.timm_names import is_vit, join_chunks, place_registers, read_vit

_GATED = {"mlp.w12.": "mlp.fc1.", "mlp.w3.": "mlp.fc2."}


@FORMATS.register_module()
class DinoV2(Format):
    """DINOv2's ViTs (Oquab et al. 2023, https://arxiv.org/abs/2304.07193).

    With registers (Darcet et al. 2023, https://arxiv.org/abs/2309.16588) the
    CLS token alone has a position of its own, so the two are added up. Registers
    also decide how positions are resampled: antialiased with them, as DINO
    without.
    """

    name = "dinov2"
    priority = 20
    verified = (
        "facebookresearch/dinov2 dinov2/models/vision_transformer.py "
        "@ 112792f1667374eb2253cc82bca19d101655356f, dinov2/hub/backbones.py "
        "@ a44758b484a74be120c3b74876569e085088cd02, dinov2/utils/utils.py "
        "@ 0239fd03c1f9fa9195bfc6ebe2505f35be9242f8, dinov2/layers/swiglu_ffn.py, layer_scale.py "
        "@ 05c66df0cfa837710197d4769158c87e36afad2c"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether a network of it has DINOv2's mask token beside a ViT."""
        return any(
            _is_dinov2(state)
            for state in (raw.tensors(), *(backbone_of(raw.tensors(name)) for name in NETWORKS))
        )

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the teacher, or the student that ``arch`` asks for, or the backbone itself."""
        found, left = pick_network(raw, arch)
        state = {_canonical(key): value for key, value in join_chunks(found).items()}
        return read_vit(
            self.name,
            raw,
            place_registers(state),
            resampling="timm" if "register_tokens" in state else "dino",
            arch=arch,
            ignored=left,
        )


def _is_dinov2(state: Mapping[str, Tensor]) -> bool:
    mask = state.get("mask_token")
    return mask is not None and mask.ndim == 2 and is_vit(join_chunks(state))


def _canonical(key: str) -> str:
    return re.sub(r"mlp\.(w12|w3)\.", lambda found: _GATED[found.group()], key)
