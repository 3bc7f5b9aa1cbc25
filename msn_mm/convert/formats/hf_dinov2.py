"""DINOv2 of Hugging Face's transformers, with and without registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.hf_names import is_hf_vit, read_hf
from msn_mm.models.ops.position import Resampling

_KINDS = ("dinov2", "dinov2_with_registers")
_EPSILON = 1e-6


@FORMATS.register_module()
class HuggingFaceDinoV2(Format):
    """``Dinov2Model`` and ``Dinov2WithRegistersModel``, as ``save_pretrained`` leaves them.

    Positions are resampled to a size: antialiased with registers, without them
    not; DINOv2's own code does the latter by a scale factor. A classifier there
    reads CLS token and mean of the patches at once and is left.
    """

    name = "hf_dinov2"
    priority = 56
    verified = "transformers 5.23"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the names are DINOv2's: those of a ViT, and layer scale."""
        scaled = any(".layer_scale1." in name for name in raw.tensors())
        return scaled and is_hf_vit(raw, _KINDS)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the backbone."""
        registers = any(name.endswith("embeddings.register_tokens") for name in raw.tensors())
        resampling: Resampling = "timm" if registers else "scale"
        return read_hf(self.name, raw, arch, epsilon=_EPSILON, resampling=resampling)
