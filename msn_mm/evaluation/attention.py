"""Attention of a frozen encoder's CLS token to the patches of images.

Shapes: B images, H heads, R x K patches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.attention_maps import cls_attention
from msn_mm.models.ops.masking import random_keep


def attention_maps(
    encoder: FrozenEncoder, images: Tensor, ratio: float = 0.0, keys: Tensor | None = None
) -> NDArray[np.float32]:
    """Return what the last block's CLS token attends to.

    Args:
        encoder: Its trunk is a :class:`~msn_mm.models.MaskedViT`.
        images: uint8 ``(B, C, H, W)`` on the host.
        ratio: Share of patches to drop.
        keys: ``(B,)`` int64, of which the masks are functions; a must with a ratio.

    Returns:
        ``(B, H, R, K)``, NaN where a patch is hidden.

    Raises:
        UserError: The trunk has no such attention, or the images do not fit it.
        ValueError: A ratio without keys.
    """
    trunk = encoder.trunk
    if not isinstance(trunk, MaskedViT):
        raise UserError(
            f"{type(trunk).__name__} has no CLS token whose attention could be drawn; a MaskedViT "
            "has (docs/swapping_a_backbone.md)"
        )
    if ratio and keys is None:
        raise ValueError("a mask ratio without keys: one int64 an image")
    rows, columns = trunk.grid_of(*images.shape[-2:])

    def read(inputs: Tensor, keys: Tensor | None) -> Tensor:
        keep = None
        if ratio:
            keep = random_keep(len(inputs), rows * columns, ratio, keys=keys)
        return cls_attention(trunk, inputs, keep)

    found = encoder.apply(images, read, keys)
    return found.unflatten(2, (rows, columns)).cpu().numpy()
