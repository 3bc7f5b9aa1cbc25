"""``ViTMSNModel`` and ``ViTMSNForImageClassification`` of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.hf_names import is_hf_vit, read_hf

MODEL_TYPE = "vit_msn"
_EPSILON = 1e-6


@FORMATS.register_module()
class HuggingFaceMSN(Format):
    """Weights and ``config.json`` as ``save_pretrained`` leaves them.

    Queries, keys and values are separate there and one matrix in timm.
    Positions are resampled to a size without antialiasing.
    """

    name = "hf_msn"
    priority = 55
    verified = (
        "huggingface/transformers src/transformers/models/vit_msn/convert_msn_to_pytorch.py at "
        "003875d501b6650510da1aa5cb5875724d1ffd5c; transformers 5.23"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the names are ViTMSN's and the config, if there is one, says nothing else.

        Without a config: ViT and its relatives have the same names but a pooler
        or a decoder, which an MSN model lacks.
        """
        return is_hf_vit(raw, [MODEL_TYPE], without=("pooler.", "decoder."))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the encoder, a classifier, and an MSN head that lies beside."""
        found = read_hf(self.name, raw, arch, epsilon=_EPSILON)
        found.extras = raw.tensors("msn_head")
        found.used += len(found.extras)
        return found
