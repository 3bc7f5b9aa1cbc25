"""A transformer block computed for its CLS token alone.

Legend: B images, T tokens (CLS first), D width, H heads, d width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TypeGuard

import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

# One query would do. But with fewer than four, torch's attention on several threads of a CPU
# rounds an image's row by its place in the batch, and a row is to depend on its image alone.
_QUERIES = 4


class ClsBlock(Block):
    """timm's plain block, which can be computed for its CLS token alone.

    Where nobody reads the other tokens of the output, the block needs of them keys and
    values only, which come with the queries from one layer: a quarter of its work or less.
    """

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        cls_only: bool = False,
    ) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``; with ``cls_only`` ``(B, D)``, the first of those T."""
        if not cls_only:
            tokens: Tensor = super().forward(x, attn_mask=attn_mask, is_causal=is_causal)
            return tokens
        if attn_mask is not None or is_causal:
            raise ValueError("a block for its CLS token alone attends to all tokens")
        cls = x[:, :1] + self.drop_path1(self.ls1(_cls_attention(self.attn, self.norm1(x))))
        return (cls + self.drop_path2(self.ls2(self.mlp(self.norm2(cls)))))[:, 0]


def let_answer_for_cls_(blocks: Iterable[nn.Module]) -> None:
    """Make timm's plain blocks :class:`ClsBlock`; blocks of another kind stay as they are.

    Parameters, hooks and names in the state dict stay too.
    """
    for block in blocks:
        if type(block) is Block:
            block.__class__ = ClsBlock


def saves_for_cls(block: nn.Module) -> bool:
    """Whether a block for its CLS token alone computes less than for all tokens."""
    return isinstance(block, ClsBlock) and _can_be_told(block) and _is_plain(block.attn)


def cls_after(block: nn.Module, tokens: Tensor) -> Tensor:
    """Return the CLS token behind a block, the other tokens uncomputed where it can be.

    Args:
        block: From ``(B, T, D)`` to ``(B, T, D)``.
        tokens: ``(B, T, D)``.

    Returns:
        ``(B, D)``, equal to ``block(tokens)[:, 0]`` up to rounding; with dropout it is
        another draw.
    """
    if isinstance(block, ClsBlock) and _can_be_told(block):
        return block(tokens, cls_only=True)
    return block(tokens)[:, 0]


def _can_be_told(block: nn.Module) -> bool:
    """Whether a forward that somebody put in place of the block's own knows ``cls_only``."""
    own = vars(block).get("forward")
    if own is None:
        return True
    try:
        known = inspect.signature(own).parameters.values()
    except (TypeError, ValueError):  # of compiled code
        return False
    return any(p.name == "cls_only" or p.kind is p.VAR_KEYWORD for p in known)


def _cls_attention(attention: nn.Module, tokens: Tensor) -> Tensor:
    """``(B, T, D)`` -> ``(B, 1, D)``: what the CLS token gathers."""
    if not _is_plain(attention):
        return attention(tokens)[:, :1]
    batch, length, _ = tokens.shape
    # The layer whole, the queries of all tokens too: a slice of its weight would have a
    # gradient of its own, which autocast sums in another precision than the whole weight's.
    qkv = attention.qkv(tokens).view(batch, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, d) each
    gathered = F.scaled_dot_product_attention(
        attention.q_norm(query[:, :, :_QUERIES]),
        attention.k_norm(key),
        value,
        dropout_p=attention.attn_drop.p if attention.training else 0.0,
        scale=attention.scale,
    )
    joined = attention.norm(gathered[:, :, :1].transpose(1, 2).flatten(2))
    return attention.proj_drop(attention.proj(joined))


def _is_plain(attention: nn.Module) -> TypeGuard[Attention]:
    """Whether this is timm's attention as it came: what was hooked or replaced has to be called."""
    return (
        type(attention) is Attention
        and attention.gate is None
        and attention.fused_attn
        and not (attention._forward_hooks or attention._forward_pre_hooks)
        and "forward" not in vars(attention)
    )
