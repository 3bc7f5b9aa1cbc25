"""A ViT's state dict in timm's names, told apart and put into canonical form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from msn_mm.convert.architecture import heads_of
from msn_mm.convert.format import Converted, RawCheckpoint, strip_prefixes
from msn_mm.convert.vit import vit_architecture
from msn_mm.models.ops.position import Resampling

_TRUNK = re.compile(
    r"cls_token|reg_token|pos_embed|patch_embed\.(proj|norm)\.(weight|bias)"
    r"|(norm|norm_pre)\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.(qkv|proj|q_norm|k_norm|norm)|mlp\.(fc1|fc2|norm))"
    r"\.(weight|bias)"
    r"|blocks\.\d+\.ls[12]\.gamma"
)

_PLAIN = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.(qkv|proj)|mlp\.(fc1|fc2))\.(weight|bias)"
)

_CLASSIFIER = {
    "head.weight": "weight",
    "head.bias": "bias",
    "fc_norm.weight": "norm.weight",
    "fc_norm.bias": "norm.bias",
}


def is_vit(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds a ViT with a CLS token, in timm's names."""
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight")
    return all(name in state for name in needed)


def is_plain_vit(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds a ViT of the first kind and nothing else: no head, no extras."""
    return is_vit(state) and all(_PLAIN.fullmatch(name) for name in state)


def join_chunks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Number blocks plainly that were saved in chunks: ``blocks.0.3.`` becomes ``blocks.3.``."""
    return {re.sub(r"^blocks\.\d+\.(?=\d+\.)", "blocks.", k): v for k, v in state.items()}


def place_registers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give DINOv2's registers timm's name, and CLS the position that it alone has there."""
    placed = dict(state)
    registers = placed.pop("register_tokens", None)
    if registers is not None and {"pos_embed", "cls_token"} <= set(placed):
        positions = placed["pos_embed"]
        placed["reg_token"] = registers
        placed["cls_token"] = placed["cls_token"] + positions[:, :1]
        placed["pos_embed"] = positions[:, 1:]
    return placed


def within(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def wrapped(raw: RawCheckpoint, *keys: str) -> dict[str, Tensor]:
    """Return the tensors at the first of some top-level keys that has any, ``module.`` removed.

    Args:
        raw: The file.
        *keys: Top-level keys; an empty one is the file itself.
    """
    for key in keys:
        state = raw.tensors(key) if key else raw.tensors()
        if state:
            return strip_prefixes(state, ["module."])
    return {}


def read_vit(
    name: str,
    raw: RawCheckpoint,
    state: Mapping[str, Tensor],
    *,
    resampling: Resampling,
    arch: Mapping[str, Any],
    heads: Callable[[int], int] = heads_of,
    options: Mapping[str, Any] | None = None,
    ignored: Sequence[str] = (),
) -> Converted:
    """Put a ViT into canonical form.

    Args:
        name: The format.
        raw: The file, for messages.
        state: All tensors that belong to the network, in timm's names.
        resampling: How the original resamples its positions.
        arch: The user's settings, checked.
        heads: From the width to the number of attention heads.
        options: Arguments of timm's ``VisionTransformer`` that the weights do not tell.
        ignored: The file's names of tensors left out already.

    Raises:
        UserError: The weights contradict each other or miss a part.
    """
    trunk = {key: value for key, value in state.items() if _TRUNK.fullmatch(key)}
    classifier = {_CLASSIFIER[key]: state[key] for key in _CLASSIFIER if key in state}
    if "weight" not in classifier or classifier["weight"].ndim != 2:
        classifier = {key: v for key, v in classifier.items() if key.startswith("norm.")}
    taken = {key for key, short in _CLASSIFIER.items() if short in classifier}
    options = dict(options or {})
    if "norm.weight" in classifier and "norm.weight" not in trunk:
        options["final_norm"] = False
    told = {key: value for key, value in arch.items() if key != "network"}
    architecture = vit_architecture(trunk, told, raw.source, resampling, options, heads)
    return Converted(
        format=name,
        architecture=architecture,
        trunk={f"vit.{key}": value for key, value in trunk.items()},
        classifier=classifier,
        pooling="cls" if options.get("final_norm", True) else "mean",
        used=len(trunk) + len(classifier),
        ignored=[*(k for k in state if k not in trunk and k not in taken), *ignored],
    )
