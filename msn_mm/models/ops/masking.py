"""Random patch masks: which patch tokens of each image are kept.

Masked tokens are dropped before the first block (Assran et al. 2022, section 3),
so a mask is the list of the tokens that stay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msn_mm.models.ops.counter_rng import uniform

MASK_STREAM = 1


def num_kept(num_patches: int, mask_ratio: float) -> int:
    """Return floor(N * (1 - ratio)), at least 1.

    Raises:
        ValueError: If the ratio lies outside [0, 1).
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(f"mask_ratio is {mask_ratio}; it must lie in [0, 1)")
    # 10 * (1 - 0.9) is 0.9999... in floating point; the small number keeps it at 1.
    return max(1, math.floor(num_patches * (1.0 - mask_ratio) + 1e-9))


def random_keep(
    batch: int,
    num_patches: int,
    mask_ratio: float,
    *,
    keys: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw the kept patches of each image without replacement, uniformly.

    Args:
        batch: B, the number of images.
        num_patches: N, the patch tokens of an unmasked image.
        mask_ratio: Share of patches to drop.
        keys: ``(B,)`` int64; the masks are then a function of the keys alone.
            Without keys they come from torch's global generator.
        device: Device of the result when there are no keys.

    Returns:
        ``(B, num_kept)`` int64 patch indices in ascending order.
    """
    kept = num_kept(num_patches, mask_ratio)
    if keys is None:
        scores = torch.rand(batch, num_patches, device=device)
    else:
        scores = uniform(keys, MASK_STREAM, num_patches)
    # A stable sort makes equal scores (one in 2^24) fall the same way on every device.
    order = scores.argsort(dim=1, stable=True)
    return order[:, :kept].sort(dim=1).values


def gather_tokens(tokens: Tensor, keep: Tensor) -> Tensor:
    """Select tokens: ``(B, N, D)`` and ``(B, M)`` indices -> ``(B, M, D)``."""
    return tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def is_dropped(keep: Tensor, num_patches: int) -> Tensor:
    """Tell which patches are not kept: ``(B, M)`` indices -> ``(B, N)`` bool."""
    mask = torch.ones(len(keep), num_patches, dtype=torch.bool, device=keep.device)
    return mask.scatter_(1, keep, False)


def restoring_order(keep: Tensor, num_patches: int) -> Tensor:
    """Return where each patch lies in a row of the kept ones, as in ``keep``, and then the rest.

    Gathering ``[kept tokens, others]`` by it puts every token at the place of
    its patch; entries of at least M belong to patches that were dropped.

    Args:
        keep: ``(B, M)`` int64 patch indices, no two alike in a row.
        num_patches: N.

    Returns:
        ``(B, N)`` int64, each row a permutation of 0 to N - 1.
    """
    batch, kept = keep.shape
    rank = keep.new_full((batch, num_patches), kept)
    rank.scatter_(1, keep, torch.arange(kept, device=keep.device).expand(batch, -1))
    return rank.argsort(dim=1, stable=True).argsort(dim=1)
