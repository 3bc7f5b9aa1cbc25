"""``ViTMSNModel`` and ``ViTMSNForImageClassification`` of Hugging Face's transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.hf_names import is_hf_vit, read_hf
from msn_mm.convert.source import BESIDE
from msn_mm.errors import UserError

MODEL_TYPE = "vit_msn"
SETTINGS_KEY = "msn_mm_settings"
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
        """Read the encoder, a classifier, and what of a training lies beside."""
        found = read_hf(self.name, raw, arch, epsilon=_EPSILON)
        for beside in BESIDE:
            found.extras |= raw.tensors(beside)
            found.settings |= _settings(raw.config.get(beside), raw.source)
        found.used += len(found.extras)
        return found


def _settings(metadata: Mapping[str, str] | None, source: str) -> dict[str, Any]:
    """Return the plain values that a file beside the weights keeps of a training."""
    text = (metadata or {}).get(SETTINGS_KEY)
    if text is None:
        return {}
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise UserError(f"the metadata of a file in '{source}' are damaged; convert it anew")
    return settings
