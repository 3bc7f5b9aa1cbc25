"""Checkpoints of this project: of training, and those that conversion writes."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.format import (
    FORMATS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Converted,
    Format,
    RawCheckpoint,
)
from msn_mm.convert.vit import vit_architecture
from msn_mm.errors import UserError

# Where a model keeps the trunk that represents, the best first.
_TRUNKS = ("target_backbone.", "backbone.", "")
_PROJECTORS = ("target_head.projector.", "head.projector.")
_PROTOTYPES = "head.prototypes"
METADATA_KEY = "msn_mm"


@FORMATS.register_module()
class OwnCheckpoint(Format):
    """A model of this project with a :class:`~msn_mm.models.MaskedViT` for a trunk."""

    name = "msn_mm"
    priority = 60
    verified = "msn_mm.models.methods.msn, msn_mm.convert.writers.msn_mm"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether there is a ``vit.cls_token`` where one of our models keeps its trunk."""
        state = _state(raw)
        return any(f"{prefix}vit.cls_token" in state for prefix in _TRUNKS)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Take the trunk, the target's if there is one, and what there is of heads."""
        state = _state(raw)
        prefix = next(p for p in _TRUNKS if f"{p}vit.cls_token" in state)
        trunk = _below(state, prefix + "vit.")
        extras = {}
        used = {f"{prefix}vit.{k}" for k in trunk}
        for projector in _PROJECTORS:
            found = _below(state, projector)
            if found:
                extras = {f"projector.{k}": v for k, v in found.items()}
                used |= {projector + k for k in found}
                break
        if _PROTOTYPES in state:
            extras["prototypes"] = state[_PROTOTYPES]
            used.add(_PROTOTYPES)
        classifier = _below(state, "classifier.")
        used |= {f"classifier.{k}" for k in classifier}
        told = _told(raw)
        return Converted(
            format=self.name,
            architecture=_architecture(trunk, arch, told, raw.source),
            trunk={f"vit.{k}": v for k, v in trunk.items()},
            classifier=classifier,
            pooling=told.get("pooling", "cls"),
            extras=extras,
            used=len(used),
            ignored=[k for k in state if k not in used],
            mean=tuple(told.get("mean", IMAGENET_MEAN)),
            std=tuple(told.get("std", IMAGENET_STD)),
        )


def model_config(text: str) -> dict[str, Any]:
    """Return ``model`` of a config's text without running it.

    MMEngine keeps the whole config as Python source in each checkpoint, which
    is therefore not to be trusted: only literals and ``dict(...)`` are read.

    Args:
        text: Assignments such as ``model = dict(type='MSN', ...)``.

    Returns:
        The model's config, or an empty one where the text has none to be read.
    """
    try:
        for statement in ast.parse(text).body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and statement.targets[0].id == "model"
            ):
                model = _literal(statement.value)
                return model if isinstance(model, dict) else {}
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
        if not isinstance(told, dict):
            raise UserError(f"the metadata of '{raw.source}' is damaged; convert it anew")
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
    return told


def _architecture(
    trunk: Mapping[str, Tensor],
    arch: Mapping[str, Any],
    told: Mapping[str, Any],
    source: str,
) -> ViTArchitecture:
    arch = dict(arch)
    settings = told.get("architecture")
    if isinstance(settings, dict):
        arch = {k: settings[k] for k in ("heads", "image_size") if k in settings} | arch
        return vit_architecture(
            trunk, arch, source, settings.get("resampling", "scale"), settings.get("options")
        )
    backbone = told.get("backbone", {})
    options = {
        k: v
        for k, v in backbone.items()
        if k
        not in ("type", "img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads")
        and k not in ("drop_path_rate", "checkpointing")
    }
    if backbone:
        arch.setdefault("heads", backbone.get("num_heads") or _heads_of_model(backbone.get("name")))
        if "img_size" in backbone:
            arch.setdefault("image_size", backbone["img_size"])
    return vit_architecture(trunk, arch, source, options=options)


def _heads_of_model(name: str | None) -> int:
    with torch.device("meta"):
        model: Any = timm.create_model(name or "vit_small_patch16_224")
    return int(model.blocks[0].attn.num_heads)


def _state(raw: RawCheckpoint) -> dict[str, Tensor]:
    return raw.tensors("state_dict") or raw.tensors()


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
