"""VISSL's ResNets, among them SimCLR's ResNet-101 and SwAV's wide ResNet-50s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.resnet import is_resnet, read_resnet

_PLACES: tuple[tuple[str, ...], ...] = (
    ("classy_state_dict", "base_model", "model", "trunk"),
    ("model_state_dict",),
    (),
)
_BLOCKS = "_feature_blocks."


@FORMATS.register_module()
class VISSLResNet(Format):
    """``classy_state_dict / base_model / model / trunk`` with ``_feature_blocks.conv1.weight``.

    Its width multiplier widens the stem too. Heads lie beside the trunk and are
    no classifiers. https://github.com/facebookresearch/vissl/blob/main/MODEL_ZOO.md
    """

    name = "vissl_resnet"
    priority = 2
    verified = (
        "facebookresearch/vissl, vissl/models/trunks/resnext.py, "
        "0e611ca89262469d0ecef30c0211b78cca97516f, and "
        "extra_scripts/convert_vissl_to_torchvision.py, a5c973bce3cd778a17a0045dd3ee2f56ef247624"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether some place of the file holds a ResNet's feature blocks."""
        return bool(_state(raw))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the trunk."""
        return read_resnet(_state(raw), raw.source, self.name, arch, trunk=_BLOCKS, classifier="-")


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    for place in _PLACES:
        state = strip_prefixes(raw.tensors(*place), ["module."])
        if is_resnet(state, _BLOCKS):
            return state
    return {}
