"""The architecture of a ViT, read off a state dict with timm's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.architecture import Resampling, ViTArchitecture, heads_of
from msn_mm.convert.format import count_blocks
from msn_mm.errors import UserError

# Settings that a user may give where the weights do not tell them.
_SETTINGS = ("heads", "image_size")


def vit_architecture(
    state: Mapping[str, Tensor],
    arch: Mapping[str, Any],
    source: str,
    resampling: Resampling = "scale",
    options: Mapping[str, Any] | None = None,
) -> ViTArchitecture:
    """Infer width, depth, heads, patch, image size and channels of a ViT.

    Args:
        state: Its weights by timm's names, without a prefix.
        arch: What the user says: ``heads``, ``image_size``.
        source: The checkpoint, for error messages.
        resampling: How the original resamples its positions.
        options: Further settings of the architecture.

    Raises:
        UserError: Weights are missing, or the positions form no square.
    """
    unknown = sorted(set(arch) - set(_SETTINGS))
    if unknown:
        raise UserError(f"arch has no '{unknown[0]}'; there are {', '.join(_SETTINGS)}")
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"):
        if name not in state:
            raise UserError(f"'{source}' has no '{name}'; it is no whole ViT")
    kernel = state["patch_embed.proj.weight"]
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise UserError(f"the patches of '{source}' are {tuple(kernel.shape)}; they must be square")
    width, channels, patch = int(kernel.shape[0]), int(kernel.shape[1]), int(kernel.shape[2])
    depth = count_blocks(state, "blocks.")
    if depth == 0:
        raise UserError(f"'{source}' has no 'blocks.0'; it is no whole ViT")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    found: dict[str, Any] = dict(options or {})
    if registers:
        found.setdefault("reg_tokens", int(registers))
    if "blocks.0.mlp.fc1.weight" in state:
        ratio = state["blocks.0.mlp.fc1.weight"].shape[0] / width
        if ratio != 4:
            found.setdefault("mlp_ratio", ratio)
    if "blocks.0.attn.qkv.bias" not in state:
        found.setdefault("qkv_bias", False)
    if "blocks.0.ls1.gamma" in state:
        found.setdefault("init_values", 1e-5)
    positions = int(state["pos_embed"].shape[1])
    prefix = 1 + int(registers)
    if math.isqrt(positions) ** 2 == positions and not _is_square(positions - prefix):
        found.setdefault("no_embed_class", True)
    grid = _side(positions - (0 if found.get("no_embed_class") else prefix), source)
    return ViTArchitecture(
        width=width,
        depth=depth,
        heads=int(arch["heads"]) if "heads" in arch else heads_of(width),
        patch=patch,
        image_size=_image_size(arch, grid, patch),
        channels=channels,
        resampling=resampling,
        options=found,
    )


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _side(patches: int, source: str) -> int:
    if not _is_square(patches):
        raise UserError(f"the {patches} positions of '{source}' form no square grid")
    return math.isqrt(patches)


def _image_size(arch: Mapping[str, Any], grid: int, patch: int) -> int:
    size = int(arch.get("image_size", grid * patch))
    if size // patch != grid:
        raise UserError(
            f"arch says image_size={size} and the weights have positions of {grid} x {grid} "
            f"patches of {patch} pixels: {grid * patch}"
        )
    return size
