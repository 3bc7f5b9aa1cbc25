"""MAE: pre-trained with or without its decoder, and fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.timm_names import is_plain_vit, is_vit, read_vit, wrapped
from msn_mm.convert.vit import settings
from msn_mm.errors import UserError

_NORM = ("head.0.running_mean", "head.0.running_var")
_NORM_EPS = 1e-6


@FORMATS.register_module()
class Mae(Format):
    """MAE's ViTs (He et al. 2022, https://arxiv.org/abs/2111.06377).

    A model fine-tuned with average pooling has a norm after the pooling and
    none on its tokens: its classifier has the former, its trunk lacks the latter.
    A linear probe has a batch norm without parameters before its linear layer; in
    evaluation the two are one linear layer, which is what is read.
    """

    name = "mae"
    priority = 10
    verified = (
        "facebookresearch/mae models_mae.py @ 6a2ba402291005b003a70e99f7c87d1a2c376b0d, "
        "models_vit.py and util/pos_embed.py @ be47fef7a727943547afb0c670cf1b26034c3c89, "
        "main_linprobe.py @ 6a2ba402291005b003a70e99f7c87d1a2c376b0d, "
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
        return "model" in raw.content and (is_plain_vit(state) or average or _is_probe(state))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the encoder and, of a fine-tuned model, its classifier."""
        state = wrapped(raw, "model", "")
        if _is_probe(state):
            state = _join_probe(state, raw.source)
        return read_vit(self.name, raw, state, resampling="scale", arch=settings(arch))


def _is_probe(state: Mapping[str, Tensor]) -> bool:
    return {*_NORM, "head.1.weight", "head.1.bias"} <= set(state)


def _join_probe(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Put the batch norm of a linear probe into its linear layer."""
    mean, variance = (state[name].double() for name in _NORM)
    weight, bias = state["head.1.weight"].double(), state["head.1.bias"].double()
    if weight.ndim != 2 or mean.shape != variance.shape or mean.shape != weight.shape[1:]:
        raise UserError(f"the parts of the linear probe of '{source}' do not fit each other")
    joined = weight / (variance + _NORM_EPS).sqrt()
    rest = {k: v for k, v in state.items() if not k.startswith("head.")}
    kind = state["head.1.weight"].dtype
    return {**rest, "head.weight": joined.to(kind), "head.bias": (bias - joined @ mean).to(kind)}
