"""MAE: pre-trained with or without its decoder, and fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.timm_names import is_plain_vit, is_vit, read_vit, settings, wrapped


@FORMATS.register_module()
class Mae(Format):
    """MAE's ViTs (He et al. 2022, https://arxiv.org/abs/2111.06377).

    A model fine-tuned with average pooling has a norm after the pooling and
    none on its tokens: its classifier has the former, its trunk lacks the latter.
    """

    name = "mae"
    priority = 10
    verified = (
        "facebookresearch/mae models_mae.py @ 6a2ba402291005b003a70e99f7c87d1a2c376b0d, "
        "models_vit.py and util/pos_embed.py @ be47fef7a727943547afb0c670cf1b26034c3c89, "
        "util/misc.py @ 3c0121bf8b86859dc31b7a3afbd1179bd0678196"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether it has MAE's decoder, or below ``model`` a bare or average-pooled ViT."""
        state = wrapped(raw, "model", "")
        if not is_vit(state):
            return False
        if "decoder_embed.weight" in state:
            return True
        average = "fc_norm.weight" in state and "norm.weight" not in state
        return "model" in raw.content and (is_plain_vit(state) or average)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the encoder and, of a fine-tuned model, its classifier."""
        state = wrapped(raw, "model", "")
        return read_vit(self.name, raw, state, resampling="scale", arch=settings(arch))
