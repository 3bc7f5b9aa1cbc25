"""What two views of each image have in common, against all other images of all ranks.

Legend: B images a rank, W ranks, P width of a projection.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from msn_mm.models.ops.distributed import gather_over_ranks, world_size


def pair_similarities(projections: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine similarities of NT-Xent: of each view with its partner, and with all others.

    The cross-entropy of the partner among ``[partner, others]``, divided by the
    temperature, is the loss of Chen et al. 2020 (arXiv 2002.05709, equation 1), its mean
    over this rank's views; averaged over the ranks that of the joint batch.

    Args:
        projections: ``(2B, P)``: first one view of each image, then the other in the
            same order; of any length but 0. B is the same on every rank.

    Returns:
        ``(2B, 1)`` and ``(2B, 2WB - 2)``, in float32 or better.

    Raises:
        ValueError: For an odd number of rows.
    """
    if len(projections) % 2:
        raise ValueError(f"NT-Xent pairs views, and {len(projections)} rows make no pairs")
    own = F.normalize(projections.to(torch.promote_types(projections.dtype, torch.float32)), dim=1)
    everyone = gather_over_ranks(own)
    similarities = own @ everyone.mT
    rows = torch.arange(len(own), device=own.device)
    start = len(own) * (dist.get_rank() if world_size() > 1 else 0)
    itself = start + rows
    partner = start + (rows + len(own) // 2) % len(own)
    return (
        similarities[rows, partner].unsqueeze(1),
        similarities.gather(1, _all_but(itself, partner, len(everyone))),
    )


def _all_but(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Numbers below ``count`` but two, ``(R,)`` and ``(R,)``, ascending -> ``(R, count - 2)``."""
    low, high = torch.minimum(one, other)[:, None], torch.maximum(one, other)[:, None]
    numbers = torch.arange(count - 2, device=one.device).expand(len(one), -1)
    numbers = numbers + (numbers >= low)
    return numbers + (numbers >= high)
