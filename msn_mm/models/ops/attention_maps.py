"""What the CLS token of the last block attends to, for pictures only.

Training keeps its fused attention, which never writes the weights out. Here the
queries and keys that the fused call is given are watched, whatever timm's block
did to them before (norms of queries and keys, registers), and the softmax is
computed beside it.

Legend: B images, H heads, T tokens (CLS first), N patches, M kept ones, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT


class _Watch(TorchFunctionMode):
    """Keep the arguments of each fused attention that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, float | None]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            key = args[1] if len(args) > 1 else kwargs["key"]
            self.seen.append((query, key, kwargs.get("scale")))
        return func(*args, **kwargs)


@torch.no_grad()
def cls_attention(trunk: MaskedViT, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return the attention of the last block's CLS token to the patches.

    Args:
        trunk: The backbone.
        images: ``(B, C, H, W)``, normalised.
        keep: ``(B, M)`` patches that are kept; None for all.

    Returns:
        float32 ``(B, H, N)``. What a head gives to CLS itself and to registers is left
        out, so that a row sums to at most 1; of a dropped patch it is NaN.

    Raises:
        UserError: The block attends in another way than by one softmax, or timm's
            fused attention is switched off.
    """
    tokens = trunk.tokens_before_last(images, keep)
    with _Watch() as watch:
        trunk.vit.blocks[-1](tokens)
    if len(watch.seen) != 1:
        kind = type(trunk.vit.blocks[-1]).__name__
        raise UserError(
            f"the last block ({kind}) computes {len(watch.seen)} fused attentions and not one, so "
            "there is no attention map of it; unset TIMM_FUSED_ATTN, or take a plain ViT"
        )
    query, key, scale = watch.seen[0]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # (B, H, 1, d) x (B, H, d, T)
    scores = query[:, :, :1].float() @ key.float().transpose(-2, -1) * scale
    weights = scores.softmax(dim=-1)[:, :, 0, trunk.vit.num_prefix_tokens :]
    if keep is None:
        return weights
    rows, columns = trunk.grid_of(*images.shape[-2:])
    whole = weights.new_full((*weights.shape[:2], rows * columns), torch.nan)
    return whole.scatter(2, keep.unsqueeze(1).expand(-1, weights.shape[1], -1), weights)
