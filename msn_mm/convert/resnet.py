"""A ResNet's architecture, told by the names and shapes of its weights.

All the layouts that published ResNets come in end, once their prefixes are off,
in the names of torchvision: ``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``fc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from msn_mm.convert.format import Converted, count_blocks
from msn_mm.errors import UserError
from msn_mm.models.backbones.plain_resnet import Padding, Stem
from msn_mm.registry import MODELS

_DEPTHS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "18",
    ("basic", (3, 4, 6, 3)): "34",
    ("bottleneck", (3, 4, 6, 3)): "50",
    ("bottleneck", (3, 4, 23, 3)): "101",
    ("bottleneck", (3, 8, 36, 3)): "152",
    ("bottleneck", (3, 24, 36, 3)): "200",
}
_BLOCKS = ("basic", "bottleneck")
_TRACKED = ".num_batches_tracked"


@dataclass(frozen=True)
class ResNetArchitecture:
    """A plain ResNet, ResNeXt or wide ResNet, as ``PlainResNet`` builds it.

    The trunk's state dict has torchvision's names. The attributes are the
    arguments of :class:`~msn_mm.models.PlainResNet`.
    """

    layers: tuple[int, ...]
    block: str
    base_channels: int = 64
    stem_channels: int = 64
    groups: int = 1
    width_per_group: int = 64
    in_channels: int = 3
    stem: Stem = "imagenet"
    padding: Padding = "symmetric"

    @property
    def channels(self) -> int:
        """C, under the name that a ViT's architecture has for it."""
        return self.in_channels

    def config(self) -> dict[str, Any]:
        """Return the trunk's config, ready for ``model.backbone``."""
        return dict(type="PlainResNet", **asdict(self))

    def build(self) -> nn.Module:
        """Return an empty ``PlainResNet``."""
        return MODELS.build(self.config())

    def describe(self) -> str:
        """Return the architecture in a few words."""
        depth = _DEPTHS.get((self.block, self.layers))
        name = f"ResNet-{depth}" if depth else f"ResNet of {self.layers} {self.block} blocks"
        if self.base_channels != 64:
            name += f", {self.base_channels / 64:g} times as wide"
        if self.groups > 1:
            name += f", {self.groups} groups of {self.width_per_group}"
        elif self.width_per_group != 64:
            name += f", bottlenecks {self.width_per_group / 64:g} times as wide"
        if self.stem != "imagenet":
            name += ", stem for small images"
        if self.padding == "same":
            name += ", borders as in TensorFlow"
        return f"{name}, {self.in_channels} channels"


def is_resnet(state: Mapping[str, Tensor], prefix: str = "") -> bool:
    """Whether a state dict has a ResNet's first weights below a prefix."""
    return all(
        prefix + name in state and state[prefix + name].ndim == 4
        for name in ("conv1.weight", "layer1.0.conv1.weight")
    )


def resnet_architecture(
    state: Mapping[str, Tensor], arch: Mapping[str, Any], source: str, stem: Stem = "small"
) -> ResNetArchitecture:
    """Tell a ResNet's architecture.

    Args:
        state: Weights by torchvision's names, without a classifier.
        arch: What the user knows better: ``stem`` and ``padding`` leave no trace.
        source: The file, for errors.
        stem: What a 3 x 3 stem is in this format.

    Raises:
        UserError: It is another kind of ResNet, or weights are missing.
    """
    known = {entry.name for entry in fields(ResNetArchitecture)}
    if unknown := sorted(set(arch) - known):
        raise UserError(
            f"arch has no '{unknown[0]}' for a ResNet; it may have {', '.join(sorted(known))}"
        )
    _check_settings(arch)
    stages = 0
    while any(key.startswith(f"layer{stages + 1}.") for key in state):
        stages += 1
    layers = tuple(count_blocks(state, f"layer{number + 1}.") for number in range(stages))
    first = {name: state.get(f"layer1.0.conv{name}.weight") for name in "123"}
    entry = state["conv1.weight"]
    if first["1"] is None or first["2"] is None:
        raise UserError(f"'{source}' lacks 'layer1.0.conv2.weight'; it is no whole ResNet")
    bottleneck = first["3"] is not None
    base = len(first["3"]) // 4 if first["3"] is not None else len(first["1"])
    groups = len(first["2"]) // first["2"].shape[1]
    found = ResNetArchitecture(
        layers=layers,
        block="bottleneck" if bottleneck else "basic",
        base_channels=base,
        stem_channels=len(entry),
        groups=groups if bottleneck else 1,
        width_per_group=64 * len(first["2"]) // (base * groups) if bottleneck else 64,
        in_channels=entry.shape[1],
        stem="imagenet" if entry.shape[-1] == 7 else stem,
    )
    return replace(found, **{**arch, "layers": tuple(arch.get("layers", layers))})


def _check_settings(arch: Mapping[str, Any]) -> None:
    """Refuse values that a user or a file gives and no ResNet can have."""
    choices = {"block": _BLOCKS, "stem": get_args(Stem), "padding": get_args(Padding)}
    for key, value in arch.items():
        if key in choices:
            fits = value in list(choices[key])
            wanted = f"one of {', '.join(choices[key])}"
        elif key == "layers":
            fits = isinstance(value, list | tuple) and bool(value) and all(map(_is_number, value))
            wanted = "the blocks of each stage, such as [3,4,6,3]"
        else:
            fits, wanted = _is_number(value), "a positive whole number"
        if not fits:
            raise UserError(f"arch: {key} is {value!r:.60}; give {wanted}")


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 < value < 100_000


def resnet_trunk(
    state: Mapping[str, Tensor], architecture: ResNetArchitecture, source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Check a trunk's weights against its architecture and complete its counters.

    Files of old PyTorch and files converted from JAX have no
    ``num_batches_tracked``, which nothing but training reads; they get zeros.

    Returns:
        The trunk's state dict, and the names of what was not in the file.

    Raises:
        UserError: A weight is missing, of another shape, or has no place in a
            plain ResNet (a deep stem, attention, another normalisation).
    """
    with torch.device("meta"):
        expected = {
            name: tuple(value.shape) for name, value in architecture.build().state_dict().items()
        }
    what = f"'{source}' is taken for a {architecture.describe()}"
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise UserError(
            f"{what}, but has '{unknown[0]}'; only plain ResNets, ResNeXts and wide ResNets "
            "(no deep stem, no attention, batch norm) are read"
        )
    trunk, added = dict(state), []
    for name, shape in expected.items():
        if name not in trunk and name.endswith(_TRACKED):
            trunk[name] = torch.zeros((), dtype=torch.long)
            added.append(name)
        elif name not in trunk:
            raise UserError(f"{what}, but lacks '{name}'; it is cut off, or of another model")
        elif tuple(trunk[name].shape) != shape:
            there = tuple(trunk[name].shape)
            raise UserError(f"{what}, but '{name}' is {there} instead of {shape}")
    return trunk, added


def read_resnet(
    state: Mapping[str, Tensor],
    source: str,
    format_name: str,
    arch: Mapping[str, Any],
    *,
    trunk: str = "",
    classifier: str = "fc.",
    small_stem: Stem = "small",
) -> Converted:
    """Read a ResNet whose weights have torchvision's names below a prefix.

    Args:
        state: All tensors of the file.
        source: The file, for errors.
        format_name: Name of the format.
        arch: See :func:`resnet_architecture`.
        trunk: Prefix of the trunk.
        classifier: Whole prefix of ``weight`` (K, D) and ``bias`` (K,), where a
            file has them.
        small_stem: What a 3 x 3 stem is in this format.

    Raises:
        UserError: See :func:`resnet_architecture` and :func:`resnet_trunk`.
    """
    head = {
        part: state[classifier + part]
        for part in ("weight", "bias")
        if classifier + part in state and state[classifier + part].ndim == 2 - (part == "bias")
    }
    if set(head) != {"weight", "bias"}:
        head = {}
    inner = {
        key.removeprefix(trunk): value
        for key, value in state.items()
        if key.startswith(trunk) and not key.startswith(f"{trunk}fc.")
    }
    if not trunk:
        inner = {key: value for key, value in inner.items() if not key.startswith(classifier)}
    architecture = resnet_architecture(inner, arch, source, small_stem)
    complete, added = resnet_trunk(inner, architecture, source)
    used = {trunk + key for key in inner} | {classifier + part for part in head}
    return Converted(
        format=format_name,
        architecture=architecture,
        trunk=complete,
        classifier=head,
        used=len(used),
        ignored=[key for key in state if key not in used],
        missing=added,
    )
