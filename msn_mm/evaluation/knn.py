"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def weighted_knn(
    support: NDArray[Any],
    support_labels: NDArray[Any],
    query: NDArray[Any],
    query_labels: NDArray[Any],
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> dict[int, dict[str, float]]:
    """Accuracy of a weighted k-NN vote for several k, from one search for neighbours.

    Every query asks its k most cosine-similar support images; a neighbour of
    similarity s votes for its label with weight ``exp(s / temperature)`` (Wu
    et al. 2018, arXiv 1805.01978, section 3.4). Among equally similar images
    the one with the smaller index is the nearer neighbour; among labels with
    equal votes the smaller one comes first. A label without a single vote is
    no answer: with k = 1 top-5 is top-1.

    Args:
        support: ``(n, D)`` features with known labels.
        support_labels: ``(n,)`` integers.
        query: ``(m, D)`` features to classify.
        query_labels: ``(m,)`` integers.
        ks: Numbers of neighbours.
        temperature: Temperature of the weights.
        device: Where the similarities are computed, in float32.
        progress: Called with the number of finished query images and of all.

    Returns:
        ``{k: {"top1", "top5"}}`` in percent, in the order of ``ks``.

    Raises:
        UserError: A k is larger than the support set, or features are not finite.
        ValueError: No k or one below 1, temperature not above 0, or no queries.
    """
    if len(ks) == 0:
        raise ValueError("ks must name at least one number of neighbours")
    if min(ks) < 1:
        raise ValueError(f"k must be at least 1, not {min(ks)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if len(query) == 0:
        raise ValueError("there is no query image to classify")
    k = max(ks)
    if k > len(support):
        raise UserError(
            f"k-NN with k={k} needs at least {k} support images, but there are {len(support)}; "
            f"use k <= {len(support)}"
        )
    check_finite(support)
    check_finite(query)
    keys, queries = (
        functional.normalize(torch.as_tensor(rows, dtype=torch.float32, device=device), dim=1)
        for rows in (support, query)
    )
    classes, columns = np.unique(support_labels, return_inverse=True)
    labels = torch.as_tensor(columns, dtype=torch.int64, device=device)
    # a label that no support image has gets a column of its own, without votes
    known = dict(zip(classes.tolist(), range(len(classes)), strict=True))
    truth = torch.tensor(
        [known.get(label, len(classes)) for label in np.asarray(query_labels).tolist()],
        device=device,
    )
    rows = max(1, _BLOCK_ENTRIES // max(len(keys), len(classes) + 1))
    hits = {k: [0, 0] for k in sorted(set(ks))}
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        nearest, values = _nearest(queries[block] @ keys.T, k)
        for k, ranks in _ranks(
            labels[nearest], values, truth[block], list(hits), len(classes) + 1, temperature
        ):
            hits[k][0] += int((ranks < 1).sum())
            hits[k][1] += int((ranks < 5).sum())
        if progress is not None:
            progress(min(start + rows, len(queries)), len(queries))
    return {
        k: {
            "top1": 100.0 * hits[k][0] / len(queries),
            "top5": 100.0 * hits[k][1] / len(queries),
        }
        for k in ks
    }


def weighted_knn_accuracy(
    support: NDArray[Any],
    support_labels: NDArray[Any],
    query: NDArray[Any],
    query_labels: NDArray[Any],
    k: int = 10,
    temperature: float = 0.07,
    device: torch.device | str = "cpu",
) -> float:
    """Top-1 accuracy of :func:`weighted_knn` for one k, in percent."""
    measured = weighted_knn(support, support_labels, query, query_labels, (k,), temperature, device)
    return measured[k]["top1"]


def _nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and values ``(q, k)`` of the k largest of ``(q, n)``, best first.

    Among equal values the smaller index comes first.
    """
    values, indices = similarity.topk(k, dim=1)
    least = values[:, -1:]
    # topk leaves open which of several equal values at the border it returns
    tied = ((similarity >= least).sum(dim=1) > k).nonzero()[:, 0]
    if len(tied):
        order = similarity[tied].sort(dim=1, descending=True, stable=True)
        indices[tied] = order.indices[:, :k]
    # ... and the order of equal values before it, where a smaller k may cut
    indices = indices.sort(dim=1).values
    ranked = similarity.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return indices.gather(1, ranked.indices), ranked.values


def _ranks(
    labels: Tensor,
    similarity: Tensor,
    truth: Tensor,
    ks: Sequence[int],
    classes: int,
    temperature: float,
) -> Iterator[tuple[int, Tensor]]:
    """For each of the ascending ks the number of labels ``(q,)`` that beat the true one.

    ``labels`` and ``similarity`` are the neighbours' ``(q, max(ks))``, nearest first.
    """
    # relative to the nearest neighbour: the same winner, and no overflow
    weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
    votes = weights.new_zeros(len(labels), classes)
    # apart from the votes: those of far neighbours may underflow
    asked = torch.zeros_like(votes, dtype=torch.bool)
    smaller = torch.arange(classes, device=labels.device) < truth[:, None]
    done = 0
    for k in ks:
        votes.scatter_add_(1, labels[:, done:k], weights[:, done:k])
        asked.scatter_(1, labels[:, done:k], True)
        own = votes.gather(1, truth[:, None])
        # sums of the same votes in another order are equal
        above = votes * (1 - 1e-12) > own
        equal = ~above & (votes >= own * (1 - 1e-12))
        ranks = (asked & (above | (equal & smaller))).sum(dim=1)
        ranks[~asked.gather(1, truth[:, None])[:, 0]] = classes + 5
        yield k, ranks
        done = k
