"""A supervised ResNet of torchvision or timm, and all that is saved under its names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.resnet import is_resnet, read_resnet
from msn_mm.errors import UserError

# Of the safetensors files that the writer of this layout makes.
METADATA_KEY = "msn_mm.resnet"
_SCALES = frozenset({"mean", "std"})
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
        """Read trunk and classifier; a file of our own says what weights do not tell."""
        told = _told(raw)
        stated: dict[str, Any] = {key: told[key] for key in ("stem", "padding") if key in told}
        found = read_resnet(_state(raw), raw.source, self.name, {**stated, **arch})
        for name in _SCALES:
            setattr(found, name, tuple(told.get(name, getattr(found, name))))
        return found


def _told(raw: RawCheckpoint) -> dict[str, Any]:
    text = raw.config.get("metadata", {}).get(METADATA_KEY, "{}")
    try:
        told = json.loads(text)
        return {**told, **{name: [float(x) for x in told[name]] for name in _SCALES & set(told)}}
    except (TypeError, ValueError) as error:
        raise UserError(f"the metadata '{METADATA_KEY}' of '{raw.source}' are damaged") from error


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    for place in _PLACES:
        state = strip_prefixes(raw.tensors(*place), ["module."])
        if is_resnet(state):
            return state
    return {}
