"""solo-learn's ResNets: a Lightning checkpoint with an online classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.resnet import is_resnet, read_resnet


@FORMATS.register_module()
class SoloResNet(Format):
    """``state_dict`` with ``backbone.*`` (before 2022: ``encoder.*``) and ``classifier.*``.

    The classifier is the linear one that solo-learn trains on the side, on
    features without gradient. Trained on CIFAR, the stem is 3 x 3 with a border
    of two pixels and no pooling.
    """

    name = "solo_resnet"
    priority = 3
    verified = (
        "vturrisi/solo-learn, solo/methods/base.py, c980e9e3f55342cec67da90045271d2511392562 "
        "(backbone) and 008f64fa785169ad7999836d57e6f872f74a854d (encoder)"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether a ResNet has a linear classifier beside it at the top."""
        state = raw.tensors("state_dict")
        return "classifier.weight" in state and bool(_prefix(state))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read trunk and online classifier."""
        state = raw.tensors("state_dict")
        return read_resnet(
            state,
            raw.source,
            self.name,
            arch,
            trunk=_prefix(state),
            classifier="classifier.",
            small_stem="small_padded",
        )


def _prefix(state: Mapping[str, Tensor]) -> str:
    return next((p for p in ("backbone.", "encoder.") if is_resnet(state, p)), "")
