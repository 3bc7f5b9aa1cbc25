"""A ViT written out by hand, which reads the published names of a state dict itself.

It shares no line with the converter: what the formats make of a checkpoint is
checked against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Positions = Callable[[Tensor, int, int], Tensor]


def random_vit(
    width: int = 192,
    depth: int = 2,
    patch: int = 8,
    size: int = 32,
    *,
    prefix: str = "",
    layer_scale: tuple[str, str] | None = None,
    seed: int = 0,
) -> State:
    """Random weights of a ViT in the names that DINO, MAE, iBOT and DINOv2 publish."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 0.1) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    state = {
        "cls_token": normal(1, 1, width),
        "pos_embed": normal(1, (size // patch) ** 2 + 1, width, scale=0.5),
        "patch_embed.proj.weight": normal(width, 3, patch, patch),
        "patch_embed.proj.bias": normal(width),
    }
    for block in range(depth):
        for name, shape in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            state[f"blocks.{block}.{name}.weight"] = normal(*shape)
            state[f"blocks.{block}.{name}.bias"] = normal(shape[0])
        for name in ("norm1", "norm2"):
            state[f"blocks.{block}.{name}.weight"] = 1 + normal(width)
            state[f"blocks.{block}.{name}.bias"] = normal(width)
        for name in layer_scale or ():
            state[f"blocks.{block}.{name}"] = 1 + normal(width)
    state["norm.weight"], state["norm.bias"] = 1 + normal(width), normal(width)
    return {prefix + key: value for key, value in state.items()}


def by_size(patches: Tensor, rows: int, columns: int) -> Tensor:
    """MAE's positions: bicubic to a size (util/pos_embed.py)."""
    return _interpolate(patches, size=(rows, columns))


def by_dino(patches: Tensor, rows: int, columns: int) -> Tensor:
    """DINO's positions: bicubic by a scale factor with 0.1 added (vision_transformer.py)."""
    side = math.sqrt(patches.shape[1])
    return _interpolate(patches, scale_factor=((rows + 0.1) / side, (columns + 0.1) / side))


def antialiased(patches: Tensor, rows: int, columns: int) -> Tensor:
    """timm's positions and those of DINOv2 with registers: antialiased bicubic to a size."""
    return _interpolate(patches, size=(rows, columns), antialias=True)


def _interpolate(patches: Tensor, **how: object) -> Tensor:
    side = math.isqrt(patches.shape[1])
    grid = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(grid, mode="bicubic", **how).flatten(2).transpose(1, 2)


def tokens(
    state: Mapping[str, Tensor],
    images: Tensor,
    heads: int,
    positions: Positions,
    layer_scale: tuple[str, str] | None = None,
    registers: str | None = None,
    gated: bool = False,
) -> Tensor:
    """Return all tokens after the last block, before the final norm."""
    weight = state["patch_embed.proj.weight"]
    x = F.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[-1])
    rows, columns = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    learned = state["pos_embed"]
    own = learned[:, 1:]
    if own.shape[1] != rows * columns:
        own = positions(own, rows, columns)
    first = (state["cls_token"] + learned[:, :1]).expand(len(x), -1, -1)
    parts = [first, x + own]
    if registers:
        parts.insert(1, state[registers].expand(len(x), -1, -1))
    x = torch.cat(parts, dim=1)
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    for number in range(depth):
        x = _block(state, f"blocks.{number}.", x, heads, layer_scale, gated)
    return x


def cls(state: Mapping[str, Tensor], images: Tensor, heads: int, positions: Positions, **how):
    """Return the CLS token after the final norm."""
    x = tokens(state, images, heads, positions, **how)
    return norm(state, "norm", x)[:, 0]


def norm(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    spread = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (spread + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _block(state, at, x, heads, layer_scale, gated):
    scales = [state[at + name] for name in layer_scale] if layer_scale else [1.0, 1.0]
    batch, length, width = x.shape
    qkv = _linear(state, f"{at}attn.qkv", norm(state, f"{at}norm1", x))
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
    mixed = (attention @ v).transpose(1, 2).reshape(batch, length, width)
    x = x + scales[0] * _linear(state, f"{at}attn.proj", mixed)
    inner = norm(state, f"{at}norm2", x)
    if gated:
        gate, value = _linear(state, f"{at}mlp.w12", inner).chunk(2, dim=-1)
        hidden, last = gate * torch.sigmoid(gate) * value, "mlp.w3"
    else:
        hidden, last = _linear(state, f"{at}mlp.fc1", inner), "mlp.fc2"
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + scales[1] * _linear(state, at + last, hidden)
