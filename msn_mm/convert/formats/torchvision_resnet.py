"""A supervised ResNet of torchvision or timm, and all that is saved under its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.resnet import is_resnet, read_resnet

# Where training scripts keep a model that is nothing but a ResNet.
_PLACES: tuple[tuple[str, ...], ...] = ((), ("state_dict",), ("model",), ("resnet",))


@FORMATS.register_module()
class TorchvisionResNet(Format):
    """``conv1.weight``, ``layer1.0.conv1.weight``, ..., ``fc.weight``.

    timm's ResNets have the same names. So have the linear classifiers of MoCo v3
    (``state_dict`` with ``module.``) and the BYOL networks that
    https://github.com/ajtejankar/byol-convert writes from the published pickle;
    the latter want ``arch=dict(padding="same")``.
    """

    name = "torchvision_resnet"
    verified = (
        "installed packages torchvision 0.29.2 and timm 1.0.31; facebookresearch/moco-v3, "
        "main_lincls.py, c5b2e602ebfe2384b38b9d21b42b37848b9d286a; ajtejankar/byol-convert, "
        "resnet.py, 05d160a73f80b62304d224f7a4e08de22c32d007"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether some place of the file holds a ResNet and nothing around it."""
        return is_resnet(_state(raw))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read trunk and classifier."""
        return read_resnet(_state(raw), raw.source, self.name, arch)


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    for place in _PLACES:
        state = strip_prefixes(raw.tensors(*place), ["module."])
        if is_resnet(state):
            return state
    return {}
