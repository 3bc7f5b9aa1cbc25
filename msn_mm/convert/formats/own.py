"""Checkpoints of this project: of training, and those that conversion writes."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from msn_mm.convert.architecture import Architecture
from msn_mm.convert.format import (
    FORMATS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Converted,
    Format,
    RawCheckpoint,
)
from msn_mm.convert.plain import channel_values
from msn_mm.convert.resnet import is_resnet, resnet_architecture, resnet_trunk
from msn_mm.convert.training_state import adam_states, group_settings, trainable
from msn_mm.convert.vit import settings, vit_architecture
from msn_mm.datasets.pixel_window import Window, as_window
from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT

# Where a model keeps the trunk that represents, the best first.
_TRUNKS = ("target_backbone.", "backbone.", "")
_PROJECTORS = ("target_head.projector.", "head.projector.")
_PROTOTYPES = "head.prototypes"
_NETWORKS = {"target": _TRUNKS[0], "online": _TRUNKS[1]}
_CLASSIFIER = ("classifier", "", "classifier.")
_FINE_TUNED = ("classifier", "", "head.fc.")
METADATA_KEY = "msn_mm"
_PLAIN = "vit_small_patch16_224"
# Arguments of MaskedViT's own that build another network and leave no trace in the weights.
_OWN_OPTIONS = {"name", "norm_eps"}
# Settings of the trunk that are no options of its architecture: MaskedViT's other ones matter to
# training alone, or are told by the weights or read apart, as are some of timm's. The last one
# was taken and never used.
_NO_OPTIONS = {*inspect.signature(MaskedViT.__init__).parameters} - _OWN_OPTIONS
_NO_OPTIONS |= {"type", "embed_dim", "depth", "num_heads", "patch_drop_rate"}


@FORMATS.register_module()
class OwnCheckpoint(Format):
    """A model of this project: of a training, or written by conversion.

    A training's is known by a :class:`~msn_mm.models.MaskedViT`, or a ResNet with a target
    or a config of ours, where our models keep their trunk; a written one says itself how it
    is built.
    """

    name = "msn_mm"
    priority = 60
    verified = "msn_mm.models.methods.msn, msn_mm.convert.writers.msn_mm"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether it says so, or there is a ViT, or a ResNet of ours, in its place."""
        state = _state(raw)
        if _is_written(raw) or any(f"{prefix}vit.cls_token" in state for prefix in _TRUNKS):
            return True
        # Other projects have a ResNet as backbone too: of one without a target the config tells.
        return is_resnet(state, _TRUNKS[0]) or (
            is_resnet(state, _TRUNKS[1])
            and _told(raw).get("backbone", {}).get("type") == "PlainResNet"
        )

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Take the trunk, the target's if there is one, and what there is of heads.

        Of a training's file the online network goes to the extras, and of MSN's, which the
        prototypes tell, head and optimizer too: other heads have no canonical names.
        ``arch`` may say ``network="online"`` for that network as the trunk.
        """
        state, told = _state(raw), _told(raw)
        there = [n for n, prefix in _NETWORKS.items() if _kind(state, prefix) is not None]
        network = arch.get("network")
        if network is not None:
            settings({"network": network}, there)
        # Of each tensor that counts: its canonical part and name.
        places: dict[str, tuple[str, str]] = {}
        for part, canonical, prefix in _layout(state, _is_written(raw), network):
            for name in _below(state, prefix):
                places.setdefault(prefix + name, (part, canonical + name))
        parts: dict[str, dict[str, Tensor]] = {"trunk": {}, "extras": {}, "classifier": {}}
        for key, (part, name) in places.items():
            parts[part][name] = state[key]
        plain = dict(told.get("settings", {}))
        optimizer = raw.content.get("optimizer")
        ignored = [key for key in state if key not in places]
        if optimizer is not None and "online" in there and network != "online":
            if _PROTOTYPES in state:
                parts["extras"] |= _optimizer(optimizer, state)
                plain["optimizer"] = group_settings(optimizer)
            else:
                ignored.append("optimizer")
        return Converted(
            format=self.name,
            architecture=_architecture(
                parts["trunk"], {k: v for k, v in arch.items() if k != "network"}, told, raw.source
            ),
            trunk=parts["trunk"],
            extras=parts["extras"],
            classifier=parts["classifier"],
            pooling=told.get("pooling", "cls"),
            settings=plain,
            used=len(places),
            ignored=ignored,
            mean=channel_values(told.get("mean", IMAGENET_MEAN), "mean", raw.source),
            std=channel_values(told.get("std", IMAGENET_STD), "std", raw.source),
            window=_window(told.get("window"), raw.source),
        )


def _layout(
    state: Mapping[str, Tensor], is_written: bool, network: str | None
) -> list[tuple[str, str, str]]:
    """Return what lies where: (part, beginning of its canonical names, prefix in the file)."""
    if is_written:
        return [("trunk", "", "backbone."), ("extras", "", "head."), _CLASSIFIER]
    first = 1 if network == "online" else 0
    trunk = next(p for p in _TRUNKS[first:] if _kind(state, p) is not None)
    kind = _kind(state, trunk)
    heads = _PROJECTORS[first:] if _PROTOTYPES in state else ()
    projector = next((p for p in heads if _below(state, p)), None)
    found = [
        ("trunk", f"{kind}", f"{trunk}{kind}"),
        ("extras", "prototypes", _PROTOTYPES),
        _CLASSIFIER,
        _FINE_TUNED,
    ]
    if projector is not None:
        found.append(("extras", "projector.", projector))
    if trunk == _TRUNKS[0]:
        found.append(("extras", f"online.{kind}", f"{_TRUNKS[1]}{kind}"))
        if projector == _PROJECTORS[0]:
            found.append(("extras", "online.projector.", _PROJECTORS[1]))
    return found


def _kind(state: Mapping[str, Tensor], prefix: str) -> str | None:
    """Return where below a prefix the trunk's names begin: a ViT's, a ResNet's, or ``None``."""
    if f"{prefix}vit.cls_token" in state:
        return "vit."
    return "" if is_resnet(state, prefix) else None


def _optimizer(saved: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Adam's state by canonical names, where the groups are this project's."""
    # The engine imports this package.
    from msn_mm.engine.optim.decay_groups import GROUPS, group_of

    names = [n for n in trainable(state) if n.startswith((_TRUNKS[1], "head."))]
    groups = [[n for n in names if group_of(n, state[n].ndim) == group] for group in GROUPS]
    shapes = {name: state[name].shape for name in names}
    return {
        f"optimizer.{kind}.{name.partition('.')[2]}": value
        for name, own in adam_states(saved, [g for g in groups if g], shapes).items()
        for kind, value in own.items()
    }


def _is_written(raw: RawCheckpoint) -> bool:
    return METADATA_KEY in raw.config.get("metadata", {})


def _window(value: Any, source: str) -> Window | None:
    try:
        return as_window(value, len(value) if value is not None else 1)
    except (TypeError, ValueError) as error:
        raise UserError(f"'{source}' has no usable window of pixel values: {error}") from error


def model_config(text: str, name: str = "model") -> dict[str, Any]:
    """Return ``model``, or another part, of a config's text without running it.

    MMEngine keeps the whole config as Python source in each checkpoint, which
    is therefore not to be trusted: only literals and ``dict(...)`` are read.

    Args:
        text: Assignments such as ``model = dict(type='MSN', ...)``.
        name: The part's name.

    Returns:
        The part, or an empty one where the text has none to be read.
    """
    try:
        for statement in ast.parse(text).body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and statement.targets[0].id == name
            ):
                part = _literal(statement.value)
                return part if isinstance(part, dict) else {}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return {}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            raise ValueError("a call")
        return {word.arg: _literal(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        return {
            _literal(key): _literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _told(raw: RawCheckpoint) -> dict[str, Any]:
    """What the checkpoint says of itself beside its weights."""
    metadata = raw.config.get("metadata", {}).get(METADATA_KEY)
    if metadata:
        try:
            told = json.loads(metadata)
        except ValueError:
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("backbone"), dict):
            raise UserError(f"the metadata of '{raw.source}' are damaged; convert it anew")
        return told
    meta = raw.content.get("meta")
    text = meta.get("cfg") if isinstance(meta, Mapping) else None
    model = model_config(text) if isinstance(text, str) else {}
    told = {}
    backbone = model.get("backbone", model if model.get("type") == "MaskedViT" else None)
    if isinstance(backbone, dict):
        told["backbone"] = backbone
    preprocessor = model.get("data_preprocessor")
    if isinstance(preprocessor, dict):
        for key in ("mean", "std"):
            if isinstance(preprocessor.get(key), list):
                told[key] = [float(value) / 255 for value in preprocessor[key]]
    window = _views(text).get("window") if isinstance(text, str) else None
    return told if window is None else {**told, "window": window}


def _views(text: str) -> dict[str, Any]:
    """Return the transform of a training's images."""
    part: Any = model_config(text, "train_dataloader")
    for key in ("dataset", "transform"):
        part = part.get(key) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}


def _architecture(
    trunk: Mapping[str, Tensor], arch: Mapping[str, Any], told: Mapping[str, Any], source: str
) -> Architecture:
    arch = dict(arch)
    config = told.get("backbone", {})
    if config.get("type") == "PlainResNet" or is_resnet(trunk):
        architecture = resnet_architecture(trunk, _resnet_settings(config) | arch, source)
        resnet_trunk(trunk, architecture, source)
        return architecture
    options = {k: v for k, v in config.items() if k not in _NO_OPTIONS}
    if options.get("name") == _PLAIN:
        del options["name"]
    if config:
        arch.setdefault("heads", config.get("num_heads") or _heads_of_model(config, source))
        size = config.get("img_size")
        sides = set(size) if isinstance(size, list) else {size}
        if len(sides) == 1 and sides != {None}:
            arch.setdefault("image_size", sides.pop())
    bare = {k.removeprefix("vit."): v for k, v in trunk.items()}
    return vit_architecture(bare, arch, source, config.get("resampling", "scale"), options)


def _resnet_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what leaves no trace in a ResNet's weights."""
    return {k: config[k] for k in ("stem", "padding") if k in config}


def _heads_of_model(config: Mapping[str, Any], source: str) -> int:
    name = config.get("name", _PLAIN)
    if not timm.is_model(name):
        raise UserError(f"'{source}' says that it is timm's '{name}', which timm does not have")
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    return int(model.blocks[0].attn.num_heads)


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    return raw.tensors("state_dict") or raw.tensors()


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
