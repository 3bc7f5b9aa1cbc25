"""``ViTMAEModel`` and ``ViTMAEForPreTraining`` of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.hf_names import is_hf_vit, read_hf

_EPSILON = 1e-12


@FORMATS.register_module()
class HuggingFaceMAE(Format):
    """MAE's encoder, with or without the decoder, as ``save_pretrained`` leaves it.

    Positions are resampled to a size without antialiasing.
    """

    name = "hf_mae"
    priority = 53
    verified = "transformers 5.23"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the names are ViT's and the config, if there is one, says MAE."""
        return is_hf_vit(raw, ["vit_mae"], without=("pooler.",))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the encoder; the decoder is left."""
        return read_hf(self.name, raw, arch, epsilon=_EPSILON)
