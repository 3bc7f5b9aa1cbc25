"""Which of a checkpoint's tensors a new training can start from, whatever their format.

A checkpoint of the same method gives every weight of the same name; any other
gives its trunk to the backbone and, where the model has one, to the target's,
and what it knows of projector, prototypes and optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.format import Converted, RawCheckpoint, convert
from msn_mm.convert.source import METADATA
from msn_mm.convert.training_state import adam_states
from msn_mm.errors import UserError
from msn_mm.models.ops.block_parts import num_heads
from msn_mm.models.ops.position import Resampling, resample_positions
from msn_mm.utils.checkpoint_options import AUTO

TRUNK, TARGET = "backbone.", "target_backbone."
_POSITIONS = "vit.pos_embed"
# A trunk that was fine-tuned with a norm after its pooling has none of its own.
_MAY_LACK = {"vit.norm.weight", "vit.norm.bias"}
# Canonical names of a head's tensors, and where a model keeps them: the online network's,
# the target's.
_HEADS = {"projector.": ("head.projector.", "target_head.projector.")}
_PROTOTYPES = "head.prototypes"
OptimizerStates = dict[str, dict[str, Tensor]]


@dataclass
class StartingWeights:
    """What a training takes from a checkpoint.

    Attributes:
        format: What the checkpoint was recognised as.
        weights: Tensors by the model's names.
        optimizer: States of Adam by the model's names of their parameters.
        ignored: The checkpoint's names that the model has no place for.
        notes: What a user should know, one sentence each.
    """

    format: str
    weights: dict[str, Tensor]
    optimizer: OptimizerStates = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def starting_weights(
    raw: RawCheckpoint,
    model: nn.Module,
    groups: list[list[str]] | None = None,
    format: str = AUTO,
    arch: Mapping[str, Any] | None = None,
) -> StartingWeights:
    """Find what of a checkpoint fits a model.

    Args:
        raw: The checkpoint.
        model: The model to be trained, without a wrapper.
        groups: Names of the parameters of each of its optimizer's groups.
        format: The checkpoint's format, or ``auto`` to recognise it.
        arch: See :meth:`~msn_mm.convert.format.Format.read`.

    Raises:
        UserError: The checkpoint is of no known format, or its trunk is built
            otherwise than the model's.
    """
    own = {name: value.shape for name, value in model.state_dict().items()}
    trunk = _below(own, TRUNK)
    if not trunk:
        raise UserError(
            f"load_from: {type(model).__name__} has no backbone to load '{raw.source}' into"
        )
    state = raw.tensors("state_dict") or raw.tensors()
    # What a user says of the checkpoint, only the formats understand.
    is_like = format == AUTO and not arch and METADATA not in raw.config
    is_like = is_like and set(_below(state, TRUNK)) == set(trunk)
    # A model of one network starts from the one that represents: the target's.
    is_like = is_like and (bool(_below(own, TARGET)) or not _below(state, TARGET))
    converted = _convert(raw, model, format, arch or {}, needed=not is_like)
    if converted is not None:
        _check_architecture(converted, model.backbone, raw.source)
    if is_like:
        found = _of_same_method(raw, state, own, model, groups or [])
    else:
        assert converted is not None
        found = _of_other(raw.source, converted, own, model)
    if getattr(model, "fresh_optimizer", False) and found.optimizer:
        found.optimizer = {}
        found.ignored.append("optimizer")
    return found


def _convert(
    raw: RawCheckpoint, model: nn.Module, format: str, arch: Mapping[str, Any], needed: bool
) -> Converted | None:
    """Read the checkpoint; attention heads that it does not tell are taken to be the model's."""
    try:
        return convert(raw, format, arch)
    except UserError:
        vit = getattr(model.backbone, "vit", None)
        heads = {"heads": num_heads(vit)} if getattr(vit, "blocks", None) else {}
        try:
            return convert(raw, format, {**heads, **arch})
        except UserError:
            if needed:
                raise
    return None


def _check_architecture(converted: Converted, backbone: Any, source: str) -> None:
    """Refuse a ViT that the config's could not be loaded from, in the config's own words."""
    there, vit = converted.architecture, getattr(backbone, "vit", None)
    if not isinstance(there, ViTArchitecture) or vit is None:
        return
    here = {
        "embed_dim": (there.width, vit.embed_dim),
        "depth": (there.depth, len(vit.blocks)),
        "num_heads": (there.heads, num_heads(vit)),
        "patch_size": (there.patch, backbone.patch_size[0]),
        "in_chans": (there.channels, backbone.in_chans),
    }
    wrong = {name: pair for name, pair in here.items() if pair[0] != pair[1]}
    if wrong:
        differences = ", ".join(f"{name} {a} there and {b} here" for name, (a, b) in wrong.items())
        mend = " ".join(f"model.backbone.{name}={a}" for name, (a, _) in wrong.items())
        raise UserError(
            f"load_from: '{source}' is a {there.describe()}: {differences}; "
            f"take its config, or --cfg-options {mend}"
        )


def _of_same_method(
    raw: RawCheckpoint,
    state: Mapping[str, Tensor],
    own: Mapping[str, torch.Size],
    model: nn.Module,
    groups: list[list[str]],
) -> StartingWeights:
    found = StartingWeights("msn_mm, with this model's names", {})
    for name, value in state.items():
        part = next((p for p in (TRUNK, TARGET) if name.startswith(p)), None)
        if name not in own:
            found.ignored.append(name)
        elif part is not None:
            inner = name.removeprefix(part)
            found.weights[name] = _fit(inner, value, own[name], model.backbone, None, raw.source)
        elif value.shape == own[name]:
            found.weights[name] = value
        else:
            found.ignored.append(name)
    for name in _below(own, TARGET):
        if TARGET + name not in found.weights:
            found.weights[TARGET + name] = found.weights[TRUNK + name]
    if "optimizer" in raw.content:
        names = {name for group in groups for name in group}
        shapes = {name: state[name].shape for name in names & set(state)}
        if set(shapes) == names:
            states = adam_states(raw.content["optimizer"], groups, shapes)
            _take_states(found, states, own)
        if not found.optimizer:
            found.ignored.append("optimizer")
    return found


def _take_states(
    found: StartingWeights, states: OptimizerStates, own: Mapping[str, torch.Size]
) -> None:
    """Keep the states of parameters that have the same shape here; name the others."""
    for name, state in states.items():
        if all(value.shape == own.get(name) for kind, value in state.items() if kind != "step"):
            found.optimizer[name] = state
        else:
            found.ignored.append(f"optimizer state of {name}")


def _of_other(
    source: str, converted: Converted, own: Mapping[str, torch.Size], model: nn.Module
) -> StartingWeights:
    found = StartingWeights(converted.format, {}, ignored=list(converted.ignored))
    architecture = converted.architecture
    kind = getattr(architecture, "resampling", None)
    online = {k: v for k, v in _below(converted.extras, "online.").items() if "." in k}
    trunks = {TRUNK: converted.trunk, TARGET: converted.trunk}
    if _below(own, TARGET):
        trunks[TRUNK] = {**converted.trunk, **_trunk_of(online, converted)}
    wanted = _below(own, TRUNK)
    _check_names(set(converted.trunk), set(wanted), source, converted)
    for prefix, trunk in trunks.items():
        for name in set(_below(own, prefix)) & set(trunk):
            shape = own[prefix + name]
            fitted = _fit(name, trunk[name], shape, model.backbone, kind, source)
            found.weights[prefix + name] = fitted
    placed = set()
    for canonical, places in _HEADS.items():
        target = _below(converted.extras, canonical)
        both = ({**target, **_below(online, canonical)}, target)
        for prefix, head in zip(places, both, strict=True):
            if head and _shapes(head) == _below(own, prefix):
                found.weights |= {prefix + name: value for name, value in head.items()}
                placed |= {canonical + name for name in head}
    prototypes = converted.extras.get("prototypes")
    if prototypes is not None and own.get(_PROTOTYPES) == prototypes.shape:
        found.weights[_PROTOTYPES] = prototypes
        placed.add("prototypes")
    _take_states(found, _states(converted), own)
    for name in converted.extras:
        bare = name.removeprefix("online.")
        is_trunk = name.startswith("online.") and bare in converted.trunk
        if not (bare in placed or is_trunk or name.startswith("optimizer.")):
            found.ignored.append(name)
    found.ignored += [f"classifier.{name}" for name in converted.classifier]
    here = getattr(model.backbone, "resampling", None)
    if kind is not None and here is not None and kind != here:
        found.notes.append(
            f"positions of other grids are resampled as the config says ('{here}'); the original "
            f"does it otherwise: model.backbone.resampling={kind}"
        )
    return found


def _trunk_of(online: Mapping[str, Tensor], converted: Converted) -> dict[str, Tensor]:
    return {name: value for name, value in online.items() if name in converted.trunk}


def _states(converted: Converted) -> OptimizerStates:
    """Return Adam's states by this project's names of the parameters."""
    states: OptimizerStates = {}
    for name, value in _below(converted.extras, "optimizer.").items():
        kind, _, canonical = name.partition(".")
        here = TRUNK + canonical if canonical in converted.trunk else f"head.{canonical}"
        states.setdefault(here, {})[kind] = value
    return states


def _check_names(there: set[str], here: set[str], source: str, converted: Converted) -> None:
    unknown, lacking = sorted(there - here), sorted(here - there - _MAY_LACK)
    if not unknown and not lacking:
        return
    what = f"'{unknown[0]}', which the config's backbone lacks" if unknown else f"no '{lacking[0]}'"
    options = getattr(converted.architecture, "options", {})
    mend = " ".join(f"model.backbone.{k}={v}" for k, v in options.items())
    raise UserError(
        f"load_from: '{source}' is a {converted.architecture.describe()} and has {what}; take "
        f"another config{', or --cfg-options ' + mend if mend else ''}"
    )


def _fit(
    name: str, value: Tensor, shape: torch.Size, backbone: Any, kind: Resampling | None, source: str
) -> Tensor:
    """Return a trunk's tensor, positions for the config's grid of patches."""
    if value.shape == shape:
        return value
    vit = getattr(backbone, "vit", None)
    if name == _POSITIONS and vit is not None and value.ndim == 3 and value.shape[2] == shape[2]:
        split = 0 if vit.no_embed_class else vit.num_prefix_tokens
        side = round((value.shape[1] - split) ** 0.5)
        if side > 0 and side**2 + split == value.shape[1]:
            patches = resample_positions(
                value[:, split:].float(), (side, side), backbone.grid, kind or backbone.resampling
            )
            return torch.cat([value[:, :split], patches.to(value.dtype)], dim=1)
    raise UserError(
        f"load_from: the backbone of '{source}' is another than the config's: {name} is "
        f"{tuple(value.shape)} there and {tuple(shape)} here"
    )


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
