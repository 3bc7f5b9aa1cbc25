"""ResNets of mmpretrain: classifiers and the self-supervised methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.resnet import is_resnet, read_resnet


@FORMATS.register_module()
class MMPretrainResNet(Format):
    """``state_dict`` with ``backbone.conv1.weight``, ..., ``head.fc.weight``.

    SimCLR, BYOL, MoCo v2 and v3 and the others have ``neck.*``, ``head.predictor.*``
    and ``target_net.*`` beside it; the representation is ``backbone``, as in
    mmpretrain's own downstream configs. ``ResNet_CIFAR`` has a 3 x 3 stem.
    """

    name = "mmpretrain_resnet"
    verified = "installed package mmpretrain 1.2.0 (ImageClassifier, SimCLR, BYOL, MoCo, MoCoV3)"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the file has a ``backbone`` that is a ResNet."""
        return is_resnet(_state(raw), "backbone.")

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read trunk and classifier."""
        return read_resnet(
            _state(raw), raw.source, self.name, arch, trunk="backbone.", classifier="head.fc."
        )


def _state(raw: RawCheckpoint) -> dict:
    return strip_prefixes(raw.tensors("state_dict") or raw.tensors(), ["module."])
