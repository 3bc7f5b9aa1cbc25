"""``ViTModel`` and ``ViTForImageClassification`` of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.hf_names import is_hf_vit, read_hf

_EPSILON = 1e-12


@FORMATS.register_module()
class HuggingFaceViT(Format):
    """Supervised ViTs and DINO's, as ``save_pretrained`` leaves them.

    Positions are resampled to a size without antialiasing, also where the model
    is DINO's, whose own code does it otherwise. Without a ``config.json`` a file
    that has no pooler cannot be told from MSN's and has to be named by its format.
    """

    name = "hf_vit"
    priority = 54
    verified = "transformers 5.23"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the names are ViT's and the config, if there is one, says nothing else."""
        return is_hf_vit(raw, ["vit"], without=("decoder.decoder_",))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the encoder and a classifier; the pooler is left."""
        return read_hf(self.name, raw, arch, epsilon=_EPSILON)
