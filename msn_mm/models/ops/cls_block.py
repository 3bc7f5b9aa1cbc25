"""A transformer block computed for its CLS token alone.

Legend: B images, T tokens (CLS first), D width, H heads, d width of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def cls_after(block: nn.Module, tokens: Tensor) -> Tensor:
    """Return the CLS token behind a block.

    Where nobody reads the other tokens of the output, timm's plain block needs of
    them keys and values only: a sixth of its work. Blocks of another
    kind are computed whole.

    Args:
        block: From ``(B, T, D)`` to ``(B, T, D)``.
        tokens: ``(B, T, D)``.

    Returns:
        ``(B, D)``, equal to ``block(tokens)[:, 0]`` up to rounding.
    """
    if type(block) is not Block:
        return block(tokens)[:, 0]
    seen = _cls_attention(block.attn, block.norm1(tokens))
    cls = tokens[:, :1] + block.drop_path1(block.ls1(seen))
    return (cls + block.drop_path2(block.ls2(block.mlp(block.norm2(cls)))))[:, 0]


def _cls_attention(attention: nn.Module, tokens: Tensor) -> Tensor:
    """``(B, T, D)`` -> ``(B, 1, D)``: what the CLS token gathers."""
    if type(attention) is not Attention or attention.gate is not None:
        return attention(tokens)[:, :1]
    batch, length, _ = tokens.shape
    heads, width = attention.num_heads, attention.attn_dim
    weight, bias = attention.qkv.weight, attention.qkv.bias
    own, others = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(tokens[:, :1], weight[:width], own).view(batch, 1, heads, -1)
    both = F.linear(tokens, weight[width:], others).view(batch, length, 2, heads, -1)
    # (B, H, T, d) each
    key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
    gathered = F.scaled_dot_product_attention(
        attention.q_norm(query.transpose(1, 2)),
        attention.k_norm(key),
        value,
        dropout_p=attention.attn_drop.p if attention.training else 0.0,
        scale=attention.scale,
    )
    joined = attention.norm(gathered.transpose(1, 2).reshape(batch, 1, width))
    return attention.proj_drop(attention.proj(joined))
