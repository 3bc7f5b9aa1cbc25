"""ResNets pre-trained with lightly: its benchmarks' and its examples' layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint
from msn_mm.convert.resnet import is_resnet, read_resnet

# The examples put torchvision's children, without the classifier, in a row.
_IN_A_ROW = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_HEADS = ("projection_head.", "prediction_head.", "online_classifier.", "prototypes.")
_ONLINE = "online_classifier.classification_head."


@FORMATS.register_module()
class LightlyResNet(Format):
    """``state_dict`` with ``backbone.conv1.weight`` or ``backbone.0.weight``.

    The benchmarks keep torchvision's names and train a classifier on the side;
    the examples number the layers of an ``nn.Sequential``, whose state dict may
    also be saved alone (``0.weight``).
    """

    name = "lightly_resnet"
    priority = 2
    verified = (
        "lightly-ai/lightly, benchmarks/imagenet/resnet50/byol.py, "
        "32c2b47cc4944c59eb713eaa35deefdb6d829934, and examples/pytorch_lightning/simclr.py, "
        "2abf92188e089e9fa9448091d0c1954bb2cfcba7; installed package lightly 1.6.0"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether a ResNet is numbered, or has one of lightly's heads beside it."""
        state = _state(raw)
        numbered = any(
            f"{prefix}0.weight" in state and is_resnet(_named(state, prefix), prefix)
            for prefix in ("backbone.", "")
        )
        has_head = any(key.startswith(_HEADS) for key in state)
        return numbered or (has_head and is_resnet(state, "backbone."))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read trunk and online classifier."""
        state = _state(raw)
        prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
        return read_resnet(
            _named(state, prefix),
            raw.source,
            self.name,
            arch,
            trunk=prefix,
            classifier=_ONLINE,
        )


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    return raw.tensors("state_dict") or raw.tensors()


def _named(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Give the numbered layers below a prefix their names."""
    named = {}
    for key, value in state.items():
        number, dot, rest = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and number in _IN_A_ROW:
            key = f"{prefix}{_IN_A_ROW[number]}{dot}{rest}"
        named[key] = value
    return named
