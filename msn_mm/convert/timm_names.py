"""A ViT's state dict in timm's names, told apart and put into canonical form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture, heads_of
from msn_mm.convert.format import Converted, RawCheckpoint, count_blocks, strip_prefixes
from msn_mm.errors import UserError, did_you_mean
from msn_mm.models.ops.position import Resampling

# What a user may give where the weights do not tell it.
_SETTINGS = ("heads", "image_size", "resampling", "network")

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


def settings(arch: Mapping[str, Any], networks: Sequence[str] = ()) -> dict[str, Any]:
    """Check the user's settings of an architecture.

    Args:
        arch: See :meth:`~msn_mm.convert.format.Format.read`.
        networks: Names of the networks that a checkpoint of the format may hold.

    Raises:
        UserError: For an unknown setting, or a value that it does not take.
    """
    for key in arch:
        if key not in _SETTINGS:
            known = ", ".join(_SETTINGS)
            raise UserError(
                f"arch has no '{key}'; a ViT has {known}.{did_you_mean(key, list(_SETTINGS))}"
            )
    kind = arch.get("resampling")
    if kind is not None and kind not in get_args(Resampling):
        raise UserError(f"arch: resampling is '{kind}'; there are {get_args(Resampling)}")
    for key in ("heads", "image_size"):
        value = arch.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"arch: {key} is {value!r}; give a positive whole number")
    network = arch.get("network")
    if network is not None and network not in networks:
        have = ", ".join(networks) or "only one"
        raise UserError(f"arch: network is '{network}'; the checkpoint has {have}")
    return dict(arch)


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
    architecture = infer_vit(
        raw.source, trunk, resampling=resampling, arch=arch, heads=heads, options=options
    )
    return Converted(
        format=name,
        architecture=architecture,
        trunk={f"vit.{key}": value for key, value in trunk.items()},
        classifier=classifier,
        pooling="cls" if options.get("final_norm", True) else "mean",
        used=len(trunk) + len(classifier),
        ignored=[*(k for k in state if k not in trunk and k not in taken), *ignored],
    )


def infer_vit(
    source: str,
    trunk: Mapping[str, Tensor],
    *,
    resampling: Resampling,
    arch: Mapping[str, Any],
    heads: Callable[[int], int] = heads_of,
    options: Mapping[str, Any] | None = None,
) -> ViTArchitecture:
    """Tell a ViT's architecture by its weights.

    Args:
        source: The file, for messages.
        trunk: The weights in timm's names.
        resampling: See :class:`~msn_mm.convert.architecture.ViTArchitecture`.
        arch: The user's settings, checked.
        heads: From the width to the number of attention heads.
        options: Arguments that the weights do not tell.

    Raises:
        UserError: The weights contradict each other, or miss a part.
    """
    if not is_vit(trunk):
        raise UserError(f"'{source}' is not a whole ViT with a CLS token")
    projection = trunk["patch_embed.proj.weight"]
    if projection.ndim != 4 or projection.shape[2] != projection.shape[3]:
        raise UserError(f"the patches of '{source}' are not square; such a ViT is not known here")
    width, channels, patch, _ = projection.shape
    registers = trunk["reg_token"].shape[1] if "reg_token" in trunk else 0
    positions = trunk["pos_embed"].shape[1]
    side, no_embed_class = _grid(source, positions, 1 + registers, no_embed_class=registers > 0)
    number = arch.get("heads") or heads(width)
    if width % number:
        raise UserError(f"a width of {width} does not divide into {number} attention heads")
    return ViTArchitecture(
        width=width,
        depth=count_blocks(trunk, "blocks."),
        heads=number,
        patch=patch,
        image_size=arch.get("image_size") or side * patch,
        channels=channels,
        resampling=arch.get("resampling") or resampling,
        options=_options(trunk, width, registers, no_embed_class) | dict(options or {}),
    )


def _grid(source: str, positions: int, prefix: int, no_embed_class: bool) -> tuple[int, bool]:
    """Return the side of the patch grid, and whether the prefix has no positions."""
    for without in (no_embed_class, not no_embed_class):
        cells = positions if without else positions - prefix
        if cells > 0 and math.isqrt(cells) ** 2 == cells:
            return math.isqrt(cells), without
    raise UserError(
        f"'{source}' has {positions} positions, which are no square grid of patches; models of "
        "oblong images are not known here"
    )


def _options(
    trunk: Mapping[str, Tensor], width: int, registers: int, no_embed_class: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if registers:
        options["reg_tokens"] = registers
    if no_embed_class:
        options["no_embed_class"] = True
    if "blocks.0.ls1.gamma" in trunk:
        options["init_values"] = 1e-5
    if "blocks.0.attn.qkv.bias" not in trunk:
        options["qkv_bias"] = False
    if "blocks.0.attn.proj.bias" not in trunk:
        options["proj_bias"] = False
    if "blocks.0.attn.q_norm.weight" in trunk:
        options["qk_norm"] = True
    if "norm_pre.weight" in trunk:
        options["pre_norm"] = True
    up, down = trunk.get("blocks.0.mlp.fc1.weight"), trunk.get("blocks.0.mlp.fc2.weight")
    if up is None or down is None:
        return options
    if up.shape[0] != down.shape[1]:
        # Gated: the first layer computes gate and value at once.
        options["name"] = "vit_giant_patch14_dinov2"
    ratio = up.shape[0] / width
    if int(width * ratio) != up.shape[0]:
        ratio = (up.shape[0] + 0.5) / width
    if ratio != 4.0 or "name" in options:
        options["mlp_ratio"] = ratio
    return options
