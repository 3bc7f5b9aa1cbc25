"""MoCo v3 with a ResNet: ``base_encoder`` and its moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.resnet import is_resnet, read_resnet


@FORMATS.register_module()
class MoCoV3ResNet(Format):
    """``state_dict`` with ``module.base_encoder.conv1.weight`` and so on.

    The representation is the base encoder's, as the published linear evaluation
    takes it; ``fc.*`` is the projector, and no classifier.
    """

    name = "mocov3_resnet"
    priority = 2
    verified = (
        "facebookresearch/moco-v3, moco/builder.py, 337f3c967d91e16a2ffdb874dd55a9b35f386c07, and "
        "main_lincls.py, c5b2e602ebfe2384b38b9d21b42b37848b9d286a"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the file has a base encoder that is a ResNet."""
        return is_resnet(_state(raw), "base_encoder.")

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the base encoder's trunk."""
        state = _state(raw)
        return read_resnet(
            state, raw.source, self.name, arch, trunk="base_encoder.", classifier="-"
        )


def _state(raw: RawCheckpoint) -> dict:
    return strip_prefixes(raw.tensors("state_dict") or raw.tensors(), ["module."])
