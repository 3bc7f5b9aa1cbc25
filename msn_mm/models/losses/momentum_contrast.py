"""Which image's moving average a prediction is nearest to, among those of all ranks.

Legend: B images a rank, W ranks, P width of a projection.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from msn_mm.models.ops.distributed import gather_over_ranks, world_size


def contrast_logits(
    predictions: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Cosine similarities of each prediction with all ranks' targets, and which is its own.

    Their cross-entropy is the InfoNCE loss of Chen, Xie and He 2021 (arXiv
    2104.02057, equation 1); its mean over this rank's images, averaged over the
    ranks, is that of the joint batch.

    Args:
        predictions: ``(B, P)`` of any length but 0, in float32 or better.
        targets: ``(B, P)`` of the same images, without gradients; B is the same on
            every rank.
        temperature: By which similarities are divided.

    Returns:
        ``(B, WB)`` logits and ``(B,)`` int64 places of the own targets.

    Raises:
        ValueError: If there are not as many targets as predictions.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions are {tuple(predictions.shape)} and targets {tuple(targets.shape)}"
        )
    everyone = gather_over_ranks(F.normalize(targets.detach(), dim=1))
    logits = F.normalize(predictions, dim=1) @ everyone.mT / temperature
    start = len(targets) * (dist.get_rank() if world_size() > 1 else 0)
    return logits, start + torch.arange(len(targets), device=logits.device)
