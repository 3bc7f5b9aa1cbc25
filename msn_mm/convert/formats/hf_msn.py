"""``ViTMSNModel`` and ``ViTMSNForImageClassification`` of Hugging Face's transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from msn_mm.convert.format import (
    FORMATS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Converted,
    Format,
    RawCheckpoint,
    rename,
)
from msn_mm.convert.vit import vit_architecture
from msn_mm.errors import UserError

MODEL_TYPE = "vit_msn"
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
# Since version 5 the modules, and state dicts made of them, have other names.
_MODULE_LAYERS = {
    "attention.o_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_MODULE_QKV = {"attention.q_proj": "query", "attention.k_proj": "key", "attention.v_proj": "value"}
_BLOCK = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")


@FORMATS.register_module()
class HuggingFaceMSN(Format):
    """Weights and ``config.json`` as ``save_pretrained`` leaves them.

    Queries, keys and values are separate there and one matrix in timm.
    Positions are resampled to a size without antialiasing.
    """

    name = "hf_msn"
    priority = 55
    verified = (
        "huggingface/transformers src/transformers/models/vit_msn/convert_msn_to_pytorch.py at "
        "003875d501b6650510da1aa5cb5875724d1ffd5c; transformers 5.23 "
    ).strip()

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether the names are ViTMSN's and the config, if there is one, says nothing else.

        Without a config: ViT and its relatives have the same names but a pooler
        or other extras, which an MSN model lacks.
        """
        state = raw.tensors()
        names = {_bare(k) for k in state}
        if not set(STEMS) <= names or not any(_BLOCK.fullmatch(name) for name in names):
            return False
        kind = raw.config.get("model_type")
        return kind == MODEL_TYPE if kind else not any(n.startswith("pooler.") for n in names)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Join queries, keys and values; keep a classifier."""
        state = raw.tensors()
        settings = raw.config
        arch = {**_told(settings, raw.source), **arch}
        classifier = {
            k.removeprefix("classifier."): v
            for k, v in state.items()
            if k in ("classifier.weight", "classifier.bias")
        }
        rest = {k: v for k, v in state.items() if not k.startswith("classifier.")}
        renamed, ignored = rename(rest, _canonical)
        trunk = dict(_join(renamed, raw.source))
        # transformers has them by these names; a user's word counts more.
        known = {"heads": "num_attention_heads", "image_size": "image_size"}
        arch = {k: _one(settings[v], v) for k, v in known.items() if v in settings} | dict(arch)
        head = raw.tensors("msn_head")
        view = settings.get("preprocessor_config", {})
        return Converted(
            format=self.name,
            architecture=vit_architecture(trunk, arch, raw.source),
            trunk={f"vit.{k}": v for k, v in trunk.items()},
            classifier=classifier,
            extras=head,
            used=len(state) - len(ignored) + len(head),
            ignored=ignored,
            mean=tuple(view.get("image_mean") or IMAGENET_MEAN),
            std=tuple(view.get("image_std") or IMAGENET_STD),
        )


def _bare(name: str) -> str:
    # Each name by itself: transformers 5 writes classifiers with the prefix on
    # some of their names and not on others.
    return name.removeprefix("vit.")


def _canonical(name: str) -> str | None:
    name = _bare(name)
    if name in STEMS:
        return STEMS[name]
    found = _BLOCK.fullmatch(name)
    if found is None:
        return None
    block, layer, kind = found.groups()
    part = layer.removeprefix("attention.attention.")
    if part in QKV or layer in _MODULE_QKV:
        return f"blocks.{block}.attn.{_MODULE_QKV.get(layer, part)}.{kind}"
    layer = {**LAYERS, **_MODULE_LAYERS}.get(layer, "")
    return f"blocks.{block}.{layer}.{kind}" if layer else None


def _join(state: Mapping[str, Tensor], source: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        found = re.fullmatch(r"(blocks\.\d+\.attn\.)(query|key|value)\.(weight|bias)", name)
        if found is None:
            yield name, value
        elif found[2] == QKV[0]:
            parts = [state.get(f"{found[1]}{part}.{found[3]}") for part in QKV]
            whole = [part for part in parts if part is not None]
            if len(whole) < len(QKV):
                raise UserError(f"'{source}' has '{name}' without its keys or values")
            yield f"{found[1]}qkv.{found[3]}", torch.cat(whole)


def _told(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what weights do not show: activation and epsilon."""
    activation = settings.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UserError(f"'{source}' has hidden_act={activation}; only {known} are supported")
    return {
        "activation": _ACTIVATIONS[activation],
        "epsilon": float(settings.get("layer_norm_eps", 1e-6)),
    }


def _one(value: Any, name: str) -> int:
    values = set(value) if isinstance(value, list | tuple) else {value}
    if len(values) != 1:
        raise UserError(f"config.json has {name}={value}; the image must be square")
    return int(values.pop())
