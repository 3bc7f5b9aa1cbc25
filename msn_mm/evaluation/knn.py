"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from msn_mm.errors import UserError
from msn_mm.evaluation.features import check_finite

# entries of one block of similarities (64 MiB of float32)
_BLOCK_ENTRIES = 1 << 24


def weighted_knn_accuracy(
    support: NDArray[Any],
    support_labels: NDArray[Any],
    query: NDArray[Any],
    query_labels: NDArray[Any],
    k: int = 10,
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
) -> float:
    """Top-1 accuracy of a weighted k-NN vote, in percent.

    Every query asks its k most cosine-similar support images; a neighbour of
    similarity s votes for its label with weight ``exp(s / temperature)`` (Wu
    et al. 2018, arXiv 1805.01978, section 3.4). Among equally similar images
    the one with the smaller index is the nearer neighbour; among labels with
    equal votes the smallest wins.

    Args:
        support: ``(n, D)`` features with known labels.
        support_labels: ``(n,)`` integers.
        query: ``(m, D)`` features to classify.
        query_labels: ``(m,)`` integers.
        k: Number of neighbours.
        temperature: Temperature of the weights.
        device: Where the similarities are computed, in float32.

    Returns:
        Accuracy in percent.

    Raises:
        UserError: k is larger than the support set, or features are not finite.
        ValueError: k below 1, temperature not above 0, or no queries.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if len(query) == 0:
        raise ValueError("there is no query image to classify")
    if k > len(support):
        raise UserError(
            f"k-NN with k={k} needs at least {k} support images, but there are {len(support)}; "
            f"use k <= {len(support)}"
        )
    check_finite(support)
    check_finite(query)
    keys = functional.normalize(torch.as_tensor(support, dtype=torch.float32, device=device), dim=1)
    queries = functional.normalize(
        torch.as_tensor(query, dtype=torch.float32, device=device), dim=1
    )
    labels = torch.as_tensor(support_labels, dtype=torch.int64, device=device)
    truth = torch.as_tensor(query_labels, dtype=torch.int64, device=device)
    rows = max(1, _BLOCK_ENTRIES // max(len(keys), k * k))
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(queries), rows):
        similarity = queries[start : start + rows] @ keys.T
        nearest, values = _nearest(similarity, k)
        predicted = _vote(labels[nearest], values, temperature)
        correct += (predicted == truth[start : start + rows]).sum()
    return 100.0 * correct.item() / len(queries)


def _nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and values ``(q, k)`` of the k largest of ``(q, n)``, ties to the smaller index."""
    values, indices = similarity.topk(k, dim=1)
    least = values[:, -1:]
    # topk leaves open which of several equal values at the border it returns
    tied = ((similarity >= least).sum(dim=1) > k).nonzero()[:, 0]
    if len(tied):
        order = similarity[tied].sort(dim=1, descending=True, stable=True)
        indices[tied] = order.indices[:, :k]
    return indices, values


def _vote(labels: Tensor, similarity: Tensor, temperature: float) -> Tensor:
    """Winning labels ``(q,)`` from the neighbours' labels and similarities ``(q, k)``."""
    # relative to the nearest neighbour: the same winner, and no overflow
    weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
    votes = torch.einsum("qij,qj->qi", (labels[:, :, None] == labels[:, None, :]).double(), weights)
    best = votes >= votes.amax(dim=1, keepdim=True) * (1 - 1e-12)
    return labels.masked_fill(~best, np.iinfo(np.int64).max).amin(dim=1)
