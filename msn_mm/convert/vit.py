"""The architecture of a ViT, read off a state dict with timm's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture, heads_of
from msn_mm.convert.format import count_blocks
from msn_mm.convert.plain import vit_arguments
from msn_mm.errors import UserError, did_you_mean
from msn_mm.models.ops.position import Resampling

# Settings that a user may give where the weights do not tell them.
_SETTINGS = ("heads", "image_size", "resampling", "network", "epsilon", "activation")
# Names of timm's; the first is what a ViT has that says nothing.
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu")
_EPSILON = 1e-6
_MOST = 10**6


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
    if kind is not None and kind not in list(get_args(Resampling)):
        names = ", ".join(get_args(Resampling))
        raise UserError(f"arch: resampling is '{kind}'; there are {names}")
    for key in ("heads", "image_size"):
        value = arch.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
            raise UserError(f"arch: {key} is {value!r}; give a positive whole number")
    epsilon = arch.get("epsilon", 1e-6)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise UserError(f"arch: epsilon is {epsilon!r}; give the norms' one, such as 1e-6")
    activation = arch.get("activation", ACTIVATIONS[0])
    if activation not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise UserError(f"arch: activation is '{activation}'; there are {names}")
    network = arch.get("network")
    if network is not None and network not in networks:
        have = ", ".join(networks) or "only one"
        raise UserError(f"arch: network is '{network}'; the checkpoint has {have}")
    return dict(arch)


def vit_architecture(
    state: Mapping[str, Tensor],
    arch: Mapping[str, Any],
    source: str,
    resampling: Resampling = "scale",
    options: Mapping[str, Any] | None = None,
    heads: Callable[[int], int] = heads_of,
) -> ViTArchitecture:
    """Infer width, depth, heads, patch, image size and channels of a ViT.

    Args:
        state: Its weights by timm's names, without a prefix.
        arch: What the user says: ``heads``, ``image_size``, ``resampling``,
            ``epsilon`` of the norms, ``activation``.
        source: The checkpoint, for error messages.
        resampling: How the original resamples its positions.
        options: Further settings of the architecture.
        heads: From the width to the attention heads, where the user does not say.

    Raises:
        UserError: Weights are missing, or the positions form no square.
    """
    arch = settings(arch)
    found = vit_arguments(options or {}, source)
    if arch.get("epsilon", _EPSILON) != _EPSILON:
        found["norm_eps"] = float(arch["epsilon"])
    if arch.get("activation", ACTIVATIONS[0]) != ACTIVATIONS[0]:
        found["act_layer"] = arch["activation"]
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"):
        if name not in state and not (name == "norm.weight" and not found.get("final_norm", True)):
            raise UserError(f"'{source}' has no '{name}'; it is no whole ViT")
    kernel = state["patch_embed.proj.weight"]
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise UserError(f"the patches of '{source}' are {tuple(kernel.shape)}; they must be square")
    width, channels, patch = int(kernel.shape[0]), int(kernel.shape[1]), int(kernel.shape[2])
    depth = count_blocks(state, "blocks.")
    if depth == 0:
        raise UserError(f"'{source}' has no 'blocks.0'; it is no whole ViT")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    for name, value in _told_by_names(state, width).items():
        found.setdefault(name, value)
    positions = int(state["pos_embed"].shape[1])
    prefix = 1 + int(registers)
    number = int(arch["heads"]) if "heads" in arch else heads(width)
    if number < 1 or width % number:
        raise UserError(f"a width of {width} does not divide into {number} attention heads")
    if math.isqrt(positions) ** 2 == positions and not _is_square(positions - prefix):
        found.setdefault("no_embed_class", True)
    grid = _side(positions - (0 if found.get("no_embed_class") else prefix), source)
    return ViTArchitecture(
        width=width,
        depth=depth,
        heads=number,
        patch=patch,
        image_size=_image_size(arch, grid, patch),
        channels=channels,
        resampling=arch.get("resampling", resampling),
        options=found,
    )


def _told_by_names(state: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    """Return the settings of timm's ``VisionTransformer`` that the first block and tokens tell."""
    found: dict[str, Any] = {}
    if "reg_token" in state:
        found["reg_tokens"] = int(state["reg_token"].shape[1])
    if "blocks.0.ls1.gamma" in state:
        found["init_values"] = 1e-5
    for name, setting in {"attn.qkv": "qkv_bias", "attn.proj": "proj_bias"}.items():
        if f"blocks.0.{name}.bias" not in state:
            found[setting] = False
    for name, setting in {"blocks.0.attn.q_norm": "qk_norm", "norm_pre": "pre_norm"}.items():
        if f"{name}.weight" in state:
            found[setting] = True
    up, down = (state.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    if up is None or down is None:
        return found
    gated = up.shape[0] != down.shape[1]
    if gated:  # the first layer computes gate and value at once
        found["name"] = "vit_giant_patch14_dinov2"
    ratio = up.shape[0] / width
    if int(width * ratio) != up.shape[0]:
        ratio = (up.shape[0] + 0.5) / width
    if gated or ratio != 4:
        found["mlp_ratio"] = ratio
    return found


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
