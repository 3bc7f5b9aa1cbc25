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


@torch.no_grad()
def fix_positions_(trunk: MaskedViT) -> None:
    """Give a ViT sine-cosine positions that are not trained, zeros for CLS.

    They stay the parameter ``vit.pos_embed``, as in a trunk that trains them.

    Raises:
        UserError: If it has no learned positions of CLS and patches to replace, or
            a width that 4 does not divide.
    """
    from mmpretrain.models.utils import build_2d_sincos_position_embedding

    positions = trunk.vit.pos_embed
    wanted = (1, 1 + trunk.grid[0] * trunk.grid[1], trunk.embed_dim // 4 * 4)
    found = None if positions is None else tuple(positions.shape)
    if positions is None or found != wanted:
        raise UserError(
            "fixed positions need a ViT of a width that 4 divides, with a position for CLS and "
            f"each patch (such as 'vit_base_patch16_224'); the backbone's are {found}"
        )
    positions.copy_(build_2d_sincos_position_embedding(trunk.grid, wanted[2], cls_token=True))
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
