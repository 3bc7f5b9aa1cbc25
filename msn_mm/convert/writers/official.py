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
# Of each tensor of a projection head, by our name: its layer there, and its dimensions.
_HEAD = {
    f"{place}.{kind}": (layer, rank)
    for layer, place in PROJECTOR.items()
    for kind, rank in (
        zip(_KINDS, (1, 1, 1, 1, 0), strict=True)
        if layer.startswith("bn")
        else (("weight", 2), ("bias", 1))
    )
}


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
            states = [k for k in extras if k.startswith("optimizer.")]
            if set(left_out).isdisjoint(order):  # it numbers the weights of a whole network
                content[OPTIMIZER] = _optimizer(converted, names)
            left_out += states if content.get(OPTIMIZER) is None else []
            for name in states:
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
    """Name a trunk and its projector, which is taken out of the extras, as the files do.

    A projector of other layers, which their code could not load, is left out as a whole.
    """
    found = {f"module.{k.removeprefix('vit.')}": v for k, v in trunk.items()}
    first = f"{prefix}projector."
    head = {k: extras.pop(k) for k in [k for k in extras if k.startswith(first)]}
    ranks = {k.removeprefix(first): v.ndim for k, v in head.items()}
    if ranks != {name: rank for name, (_, rank) in _HEAD.items()}:
        left_out += head
        return found
    for name, value in head.items():
        own = name.removeprefix(first)
        found[f"module.{HEAD}{_HEAD[own][0]}.{own.partition('.')[2]}"] = value
    return found


def _optimizer(converted: Converted, names: Sequence[str]) -> dict[str, object] | None:
    """Number Adam's states as the released optimizer does; ``None`` when none fit its weights."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in converted.extras.items():
        found = name.partition("optimizer.")[2]
        if found:
            kind, _, weight = found.partition(".")
            states.setdefault(weight, {})[kind] = value
    trained = trainable(names)
    ranks = {name: converted.extras[f"online.{name}"].ndim for name in trained}
    groups = optimizer_groups(trained, ranks)
    number = {name: i for i, name in enumerate(name for group in groups for name in group)}
    if not states or not states.keys() <= number.keys():
        return None
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
