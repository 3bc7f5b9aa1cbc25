"""How the published recipes of MAE and MoCo v3 start a vision transformer.

timm starts linear layers from a truncated normal distribution and trains the
positions; both papers take Xavier's uniform distribution and fixed sine-cosine
positions (arXiv 2111.06377, appendix A.1; arXiv 2104.02057, section 5). Names and
shapes of the weights stay timm's, so any tool reads such a trunk.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.position import Grid


@torch.no_grad()
def fix_positions_(positions: nn.Parameter | None, grid: Grid) -> None:
    """Set positions to sines and cosines of the patch's row and column, and stop their training.

    A parameter stays a parameter, so the names of the weights are those of a
    network that trains it.

    Args:
        positions: ``(1, 1 + N, D)``, of CLS (set to 0) and the patches row by row.
        grid: (rows, columns) with N = rows * columns.

    Raises:
        UserError: If there is no position for CLS and each patch, or 4 does not
            divide the width.
    """
    from mmpretrain.models.utils import build_2d_sincos_position_embedding

    found = None if positions is None else tuple(positions.shape)
    if positions is None or found != (1, 1 + grid[0] * grid[1], positions.shape[2] // 4 * 4):
        raise UserError(
            "fixed positions need a ViT with a position for CLS and each patch and a width that 4 "
            f"divides, such as 'vit_base_patch16_224'; these positions are {found}"
        )
    positions.copy_(build_2d_sincos_position_embedding(grid, positions.shape[2], cls_token=True))
    positions.requires_grad_(False)


@torch.no_grad()
def start_linear_(module: nn.Module, split_qkv: bool = False) -> None:
    """Start all linear layers of a module from Xavier's uniform distribution, biases at 0.

    Args:
        module: Changed in place.
        split_qkv: Count query, key and value, which share one layer ``qkv``, as
            three layers.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        outputs, inputs = layer.weight.shape
        if split_qkv and name.rpartition(".")[2] == "qkv":
            outputs //= 3
        bound = math.sqrt(6 / (inputs + outputs))
        nn.init.uniform_(layer.weight, -bound, bound)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def start_patches_(trunk: MaskedViT) -> None:
    """Start the patch embedding as the linear layer of a patch's pixels that it is."""
    projection = trunk.vit.patch_embed.proj
    nn.init.xavier_uniform_(projection.weight.view(len(projection.weight), -1))
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
