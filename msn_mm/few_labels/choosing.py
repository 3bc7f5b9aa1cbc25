"""Which images to label first: those that stand for many others, or lie far from each other.

Legend: n images, m labelled ones, D width, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

Rows = NDArray[np.float32]

NEIGHBOURS = 20
"""Nearest neighbours that typicality is a mean over (Hacohen et al. 2022, section 3.2)."""

# Up to so many rows all of them take part in every step of k-means.
_WHOLE_BATCH = 50_000
_MINI_BATCH = 8192
# Neighbours are looked for among so many rows of a cluster; all pairs of a larger one
# would take a time that grows with its square.
_STAND_FOR_A_CLUSTER = 8192


@dataclass(frozen=True)
class Choice:
    """An image to be labelled.

    Attributes:
        index: Its number.
        reason: Why, in a few words.
    """

    index: int
    reason: str


def choose(rows: Rows, labelled: Rows, number: int, method: str, seed: int = 0) -> list[Choice]:
    """Choose images to label, the most useful ones first.

    Of images with equal features one is chosen at most, and none that equals a
    labelled one. A seed decides all, whatever the number of cores.

    Args:
        rows: ``(n, D)`` of unit norm (or zero), the images to choose from.
        labelled: ``(m, D)`` likewise, images that have a label already; m may be 0.
        number: How many; fewer are returned where there are no more different images.
        method: One of :data:`METHODS`.
        seed: Seed of the method.

    Raises:
        ValueError: Fewer than one image is asked for, or there is no such method.
    """
    if number < 1 or method not in METHODS:
        raise ValueError(f"number {number} or method '{method}' is impossible")
    different = different_rows(rows, labelled)
    if not len(different):
        return []
    # A copy of a million rows is worth a question.
    pool = rows if len(different) == len(rows) else rows[different]
    # More threads would add up in another order on another machine.
    with threadpool_limits(limits=1):
        found = METHODS[method](
            pool, labelled, min(number, len(different)), np.random.RandomState(seed)
        )
    return [Choice(int(different[one.index]), one.reason) for one in found]


def different_rows(rows: Rows, labelled: Rows) -> NDArray[np.int64]:
    """Return the first of each set of equal rows, without those that equal a labelled one."""
    seen = {_digest(row) for row in labelled}
    first = []
    for number, row in enumerate(rows):
        digest = _digest(row)
        if digest not in seen:
            seen.add(digest)
            first.append(number)
    return np.array(first, dtype=np.int64)


def typical(rows: Rows, labelled: Rows, number: int, random: np.random.RandomState) -> list[Choice]:
    """Choose the most typical image of each of the largest clusters without a label.

    All images, labelled or not, are clustered by k-means into as many clusters as
    there are labels and images asked for. So at least ``number`` clusters hold no
    labelled image, but for empty ones. Typicality is the inverse of the mean distance to
    the :data:`NEIGHBOURS` nearest neighbours, here within the cluster; of a cluster
    of more than 8,192 images a random 8,192 stand for it. The largest clusters come
    first; where they do not suffice, the second most typical images follow.

    Args:
        rows: ``(n, D)``, all different.
        labelled: ``(m, D)``.
        number: At most n.
        random: What draws.

    Source: Hacohen, Dekel & Weinshall 2022, "Active learning on a budget: opposite
    strategies suit high and low budgets", arXiv 2202.02794, section 3.2 (TypiClust).
    """
    together = np.concatenate([rows, labelled]) if len(labelled) else rows
    cluster = _clusters(together, number + len(labelled), random)
    own, covered = cluster[: len(rows)], set(cluster[len(rows) :].tolist())
    sizes = np.bincount(own)
    # Stable: of clusters of one size the one with the smaller number.
    order = [k for k in np.argsort(-sizes, kind="stable").tolist() if sizes[k]]
    ranked = [k for k in order if k not in covered] + [k for k in order if k in covered]
    members: dict[int, NDArray[np.int64]] = {}
    found: list[Choice] = []
    for turn in range(number):
        for k in ranked:
            if len(found) == number:
                return found
            if k not in members:
                members[k] = _by_typicality(rows, np.flatnonzero(own == k), random)
            if turn < len(members[k]):
                place = "most typical" if turn == 0 else f"number {turn + 1} in typicality"
                known = ", which has a label already" if k in covered else ""
                group = f"a group of {sizes[k]:,} images" if sizes[k] > 1 else "a group of its own"
                reason = f"{place} of {group}{known}"
                found.append(Choice(int(members[k][turn]), reason))
    return found


def spread(rows: Rows, labelled: Rows, number: int, random: np.random.RandomState) -> list[Choice]:
    """Choose images far from each other by the seeding of k-means++.

    Each is drawn with a probability that grows with the squared distance to the
    nearest one chosen before. Where images have labels, each image weighs its
    squared distance to the nearest of these, so that none beside them is drawn.

    Args:
        rows: ``(n, D)``, all different.
        labelled: ``(m, D)``.
        number: At most n.
        random: What draws.

    Source: Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding",
    as :func:`sklearn.cluster.kmeans_plusplus` does it.
    """
    weight = None
    if len(labelled):
        neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(labelled)
        weight = neighbours.kneighbors(rows)[0][:, 0].astype(np.float64) ** 2
        # Nothing but near-copies of labelled ones: by rounding their distances may all be 0.
        if not weight.any():
            weight = None
    _, indices = kmeans_plusplus(rows, number, sample_weight=weight, random_state=random)
    # Rows that differ by rounding alone have no distance to draw by: one may come twice.
    drawn = list(dict.fromkeys(indices.tolist()))
    drawn += np.setdiff1d(np.arange(len(rows)), drawn)[: number - len(drawn)].tolist()
    first = "far from the labelled ones" if weight is not None else "drawn at random"
    reasons = [first, *["far from those before"] * (number - 1)]
    return [Choice(i, why) for i, why in zip(drawn, reasons, strict=True)]


Method = Callable[[Rows, Rows, int, np.random.RandomState], list[Choice]]
METHODS: dict[str, Method] = {"typical": typical, "kmeans++": spread}
"""By the names of ``msn-mm label-suggest --method``."""


def _clusters(rows: Rows, count: int, random: np.random.RandomState) -> NDArray[np.int64]:
    """Return the cluster of each row."""
    if count >= len(rows):
        return np.arange(len(rows))
    if len(rows) <= _WHOLE_BATCH:
        found = KMeans(count, n_init=1, random_state=random)
    else:
        found = MiniBatchKMeans(count, n_init=1, batch_size=_MINI_BATCH, random_state=random)
    return found.fit_predict(rows).astype(np.int64)


def _by_typicality(
    rows: Rows, members: NDArray[np.int64], random: np.random.RandomState
) -> NDArray[np.int64]:
    """Return a cluster's members, or those that stand for it, the most typical first."""
    if len(members) > _STAND_FOR_A_CLUSTER:
        members = np.sort(random.choice(members, _STAND_FOR_A_CLUSTER, replace=False))
    if len(members) < 3:  # the two of a pair are as typical as each other
        return members
    neighbours = NearestNeighbors(
        n_neighbors=min(NEIGHBOURS, len(members) - 1), algorithm="brute"
    ).fit(rows[members])
    # Asked without rows it leaves each row itself out.
    distance = neighbours.kneighbors()[0].mean(axis=1)
    return members[np.argsort(distance, kind="stable")]


def _digest(row: Rows) -> bytes:
    return blake2b(row.tobytes(), digest_size=16).digest()
