"""The layout of the released MSN files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.files import new_file
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.msn_released import (
    HEAD,
    ONLINE,
    OPTIMIZER,
    PROJECTOR,
    PROTOTYPES,
    TARGET,
    optimizer_groups,
)
from msn_mm.convert.training_state import trainable
from msn_mm.convert.writer import WRITERS, Writer, Written, plain_vit, resampling_note

# What AdamW needs of a group that nothing is told of; the schedule sets the rates.
_GROUP = {"lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
# Keys by which the released schedules tell the groups apart; of matrices, of vectors and biases,
# of the prototypes.
_MARKS: tuple[dict[str, bool], ...] = (
    {},
    {"WD_exclude": True},
    {"WD_exclude": True, "LARS_exclude": True},
)
_KINDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_LAYERS = {place: layer for layer, place in PROJECTOR.items()}


@WRITERS.register_module()
class OfficialWriter(Writer):
    """``target_encoder`` with ``module.`` before each name, and ``prototypes``.

    A training's file has the online network in ``encoder`` and Adam's state in ``opt``.

    The released code loads its evaluations from ``target_encoder``.
    """

    name = "official"
    suffix = ".pth.tar"

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write trunk, projector and prototypes; online network and optimizer where known."""
        architecture = plain_vit(converted, self.name)
        converted = _in_module_order(converted, architecture)
        left_out = [f"classifier.{k}" for k in converted.classifier]
        extras = dict(converted.extras)
        content: dict[str, object] = {
            TARGET: _network(converted.trunk, extras, "", left_out),
            "epoch": int(converted.settings.get("epoch", 0)),
        }
        if any(name.startswith("online.vit.") for name in extras):
            trunk = {k: extras.pop(f"online.{k}") for k in converted.trunk}
            order = [*trunk, *(k for k in extras if k.startswith("online.projector."))]
            content[ONLINE] = _network(trunk, extras, "online.", left_out)
            names = [name.removeprefix("online.") for name in order]
            content[OPTIMIZER] = _optimizer(converted, names)
            for name in [k for k in extras if k.startswith("optimizer.")]:
                del extras[name]
        if PROTOTYPES in extras:
            content[PROTOTYPES] = extras.pop(PROTOTYPES)
        left_out += extras
        with new_file(destination) as file:
            torch.save({k: v for k, v in content.items() if v is not None}, file)
        return Written(
            destination,
            f"torch.load({str(destination)!r})[{TARGET!r}]",
            left_out,
            resampling_note(architecture),
        )


def _in_module_order(converted: Converted, architecture: ViTArchitecture) -> Converted:
    """Sort tensors as their modules are made: safetensors sort names by the alphabet.

    An optimizer numbers its parameters in the modules' order, and a reader of the
    file takes the order of its names for that.
    """
    with torch.device("meta"):
        names = list(architecture.build().state_dict())
    rank = {name: i for i, name in enumerate(names)}

    def place(name: str) -> tuple[int, int]:
        _, is_head, rest = name.partition("projector.")
        number, _, kind = rest.partition(".")
        if is_head and number.isdecimal() and kind in _KINDS:
            return int(number), _KINDS.index(kind)
        return -1, rank.get(name.removeprefix("online."), len(rank))

    return replace(
        converted,
        trunk={name: converted.trunk[name] for name in names},
        extras={name: converted.extras[name] for name in sorted(converted.extras, key=place)},
    )


def _network(
    trunk: Mapping[str, Tensor], extras: dict[str, Tensor], prefix: str, left_out: list[str]
) -> dict[str, Tensor]:
    """Name a trunk and its projector, which is taken out of the extras, as the files do."""
    found = {f"module.{k.removeprefix('vit.')}": v for k, v in trunk.items()}
    for name in [k for k in extras if k.startswith(f"{prefix}projector.")]:
        value = extras.pop(name)
        place, _, kind = name.removeprefix(f"{prefix}projector.").partition(".")
        if place.isdigit() and int(place) in _LAYERS:
            found[f"module.{HEAD}{_LAYERS[int(place)]}.{kind}"] = value
        else:
            left_out.append(name)
    return found


def _optimizer(converted: Converted, names: Sequence[str]) -> dict[str, object] | None:
    """Number Adam's states as the released optimizer does; ``None`` when there are none."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in converted.extras.items():
        found = name.partition("optimizer.")[2]
        if found:
            kind, _, weight = found.partition(".")
            states.setdefault(weight, {})[kind] = value
    if not states:
        return None
    weights = {**converted.trunk, **converted.extras}
    trained = trainable(names)
    groups = optimizer_groups(trained, {name: weights[name].ndim for name in trained})
    number = {name: i for i, name in enumerate(name for group in groups for name in group)}
    told = converted.settings.get("optimizer") or []
    if len(told) != len(groups):
        told = [{}] * len(groups)
    return {
        "state": {number[name]: state for name, state in states.items()},
        "param_groups": [
            {**_GROUP, **marks, **_tupled(own), "params": [number[name] for name in group]}
            for marks, own, group in zip(_MARKS, told, groups, strict=True)
        ],
    }


def _tupled(group: Mapping[str, object]) -> dict[str, object]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in group.items()}
