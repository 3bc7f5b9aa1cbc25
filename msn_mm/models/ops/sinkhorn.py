"""Sinkhorn normalisation of the targets, in log space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msn_mm.models.ops.distributed import logsumexp_over_ranks, world_size


@torch.no_grad()
def sinkhorn(
    log_probabilities: Tensor, iterations: int = 3, log_prior: Tensor | None = None
) -> Tensor:
    """Balance soft assignments so that every prototype gets its share of the weight.

    Each iteration first gives every prototype its weight over the joint batch (1/K,
    or its share in a prior), then every sample weight 1. It starts from sharpened per-sample
    probabilities, as the released MSN does, not from exponentials of raw
    logits; in log space it cannot overflow or lose a prototype to underflow.

    Sources: Assran et al. 2022, appendix C.1; Caron et al. 2020, arXiv 2006.09882, section 3.1.

    Args:
        log_probabilities: ``(B, K)`` log of sharpened predictions, this rank's
            part of the joint batch. Every rank must hold the same B.
        iterations: Number of row and column normalisations, at least 1.
        log_prior: ``(K,)`` log of the prototypes' shares; ``None``: 1/K each.

    Returns:
        ``(B, K)`` log targets; each row sums to 1 after ``exp``.
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; Sinkhorn needs at least 1")
    batch, prototypes = log_probabilities.shape
    log_batch = math.log(batch * world_size())
    log_share: Tensor | float = -math.log(prototypes) if log_prior is None else log_prior
    log_q = log_probabilities
    for _ in range(iterations):
        # Prototype k: its share of the weight B (so that the mean row is the prior).
        log_q = log_q - logsumexp_over_ranks(log_q, dim=0) + (log_batch + log_share)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q
