"""ViTs by the names of Hugging Face's transformers, put into canonical form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from msn_mm.convert.format import IMAGENET_MEAN, IMAGENET_STD, Converted, RawCheckpoint, rename
from msn_mm.convert.plain import channel_values
from msn_mm.convert.timm_names import place_registers
from msn_mm.convert.vit import vit_architecture
from msn_mm.errors import UserError
from msn_mm.models.ops.position import Resampling

# Activations of transformers, and timm's names of them.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
# Name of a layer in the published files, and in timm's blocks.
LAYERS = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
STEMS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
QKV = ("query", "key", "value")
# Of DINOv2's files; the gated layer has its gate in front, as timm's.
_DINOV2_LAYERS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
}
# Since version 5 the modules, and state dicts made of them, have other names.
_MODULE_LAYERS = {
    "attention.o_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.down_proj": "mlp.fc2",
}
_MODULE_QKV = {"attention.q_proj": "query", "attention.k_proj": "key", "attention.v_proj": "value"}
_GATED = {"mlp.gate_proj": "gate", "mlp.up_proj": "up"}
# Parts of one matrix of timm's, in its order.
_JOINED = {"attn": ("qkv", QKV), "mlp": ("fc1", tuple(_GATED.values()))}
_BLOCK = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")
_SCALE = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.layer_scale([12])\.lambda1")
_PREFIX = re.compile(r"(vit|dinov2|dinov2_with_registers)\.")
_CLASSIFIER = ("classifier.weight", "classifier.bias")


def is_hf_vit(raw: RawCheckpoint, kinds: Iterable[str], *, without: Iterable[str] = ()) -> bool:
    """Whether a file has a ViT in these names and its config, if there is one, says its kind.

    Args:
        raw: The file.
        kinds: What the config may have as ``model_type``.
        without: Beginnings of names that a file without a config must not have.
    """
    names = {_bare(name) for name in raw.tensors()}
    if not set(STEMS) <= names or not any(_BLOCK.fullmatch(name) for name in names):
        return False
    kind = raw.config.get("model_type")
    return kind in kinds if kind else not any(name.startswith(tuple(without)) for name in names)


def read_hf(
    name: str,
    raw: RawCheckpoint,
    arch: Mapping[str, Any],
    *,
    epsilon: float,
    resampling: Resampling = "scale",
) -> Converted:
    """Join what is separate in transformers; keep a classifier that reads the CLS token.

    Args:
        name: The format.
        raw: The file, and its config where there is one.
        arch: The user's settings, which count more than the config's.
        epsilon: Of the norms, where neither says it.
        resampling: How transformers resamples the positions of this kind.

    Raises:
        UserError: The weights or the config contradict each other, or miss a part.
    """
    state, told = raw.tensors(), raw.config
    renamed, ignored = rename(
        {key: value for key, value in state.items() if key not in _CLASSIFIER}, _canonical
    )
    trunk = place_registers(dict(_join(renamed, raw.source)))
    known = {"heads": "num_attention_heads", "image_size": "image_size"}
    arch = {
        **{k: _one(told[v], v) for k, v in known.items() if v in told},
        **_not_in_weights(told, epsilon, raw.source),
        **arch,
    }
    architecture = vit_architecture(trunk, arch, raw.source, resampling)
    classifier = {key.split(".")[1]: state[key] for key in _CLASSIFIER if key in state}
    if classifier and classifier.get("weight", trunk["cls_token"]).shape[-1] != architecture.width:
        ignored += [f"classifier.{key}" for key in classifier]
        classifier = {}
    view = told.get("preprocessor_config", {})
    return Converted(
        format=name,
        architecture=architecture,
        trunk={f"vit.{key}": value for key, value in trunk.items()},
        classifier=classifier,
        used=len(state) - len(ignored),
        ignored=ignored,
        mean=channel_values(view.get("image_mean") or IMAGENET_MEAN, "image_mean", raw.source),
        std=channel_values(view.get("image_std") or IMAGENET_STD, "image_std", raw.source),
    )


def _bare(name: str) -> str:
    # Each name by itself: transformers 5 writes classifiers with the prefix on
    # some of their names and not on others.
    return _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name


def _canonical(name: str) -> str | None:
    name = _bare(name)
    if name in STEMS:
        return STEMS[name]
    if name == "embeddings.register_tokens":
        return "register_tokens"
    scale = _SCALE.fullmatch(name)
    if scale is not None:
        return f"blocks.{scale[1]}.ls{scale[2]}.gamma"
    found = _BLOCK.fullmatch(name)
    if found is None:
        return None
    block, layer, kind = found.groups()
    part = layer.removeprefix("attention.attention.")
    if part in QKV or layer in _MODULE_QKV:
        return f"blocks.{block}.attn.{_MODULE_QKV.get(layer, part)}.{kind}"
    if layer in _GATED:
        return f"blocks.{block}.mlp.{_GATED[layer]}.{kind}"
    layer = {**LAYERS, **_DINOV2_LAYERS, **_MODULE_LAYERS}.get(layer, "")
    return f"blocks.{block}.{layer}.{kind}" if layer else None


def _join(state: Mapping[str, Tensor], source: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        found = re.fullmatch(r"(blocks\.\d+\.(attn|mlp)\.)(\w+)\.(weight|bias)", name)
        whole, parts = _JOINED[found[2]] if found else ("", ())
        if found is None or found[3] not in parts:
            yield name, value
        elif found[3] == parts[0]:
            pieces = [state.get(f"{found[1]}{part}.{found[4]}") for part in parts]
            there = [piece for piece in pieces if piece is not None]
            if len(there) < len(parts):
                others = " or ".join(parts[1:])
                raise UserError(f"'{source}' has '{name}' without its {others}")
            yield f"{found[1]}{whole}.{found[4]}", torch.cat(there)


def _not_in_weights(config: Mapping[str, Any], epsilon: float, source: str) -> dict[str, Any]:
    """Return what weights do not show: activation and epsilon."""
    activation = config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UserError(f"'{source}' has hidden_act={activation}; only {known} are supported")
    return {
        "activation": _ACTIVATIONS[activation],
        "epsilon": float(config.get("layer_norm_eps", epsilon)),
    }


def _one(value: Any, name: str) -> int:
    values = set(value) if isinstance(value, list | tuple) else {value}
    if len(values) != 1:
        raise UserError(f"config.json has {name}={value}; the image must be square")
    return int(values.pop())
