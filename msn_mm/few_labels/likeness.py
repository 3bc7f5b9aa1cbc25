"""The nearest labelled image, and whether an image looks like any of them.

Legend: n labelled images, m others, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# entries of one block of similarities (32 MiB of float64)
_BLOCK_ENTRIES = 1 << 22


def nearest(
    labelled: NDArray[np.float64], asked: NDArray[np.float64], is_same: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the most similar labelled image of each image asked.

    Args:
        labelled: ``(n, D)`` rows of unit norm; a product is a cosine.
        asked: ``(m, D)`` likewise.
        is_same: The two are the same images, and none is its own neighbour.

    Returns:
        Indices ``(m,)``, of equally similar ones the smallest, and cosines ``(m,)``.
    """
    rows = max(1, _BLOCK_ENTRIES // len(labelled))
    index = np.empty(len(asked), dtype=np.int64)
    cosine = np.empty(len(asked))
    for start in range(0, len(asked), rows):
        part = asked[start : start + rows]
        similar = part @ labelled.T
        if is_same:
            own = np.arange(len(part))
            similar[own, start + own] = -np.inf
        block = slice(start, start + len(part))
        index[block] = similar.argmax(axis=1)
        cosine[block] = similar[np.arange(len(part)), index[block]]
    return index, cosine


@dataclass(frozen=True)
class Likeness:
    """How alike labelled images are among themselves, the measure for all others.

    An image counts as unknown when its nearest labelled image is less similar
    than nearly all labelled images are to their own nearest, each left out in
    turn: a conformal test (Vovk et al. 2005; leaving one out, Barber et al.
    2021, arXiv 1905.02928). Were the image one more of the kind that was
    labelled, it would be flagged at about the rate asked for.

    Attributes:
        similarities: ``(n,)`` cosine of each labelled image to the nearest other one, ascending.
    """

    similarities: NDArray[np.float64]

    @classmethod
    def among(cls, labelled: NDArray[np.float64]) -> Likeness:
        """Measure ``(n, D)`` labelled images of unit norm, n >= 2."""
        return cls(np.sort(nearest(labelled, labelled, is_same=True)[1]))

    def threshold(self, rate: float) -> float | None:
        """Return the similarity below which an image is unknown.

        It is the k-th lowest of the n, k = floor(rate * (n + 1)).

        Args:
            rate: Share of images of the known kind that may be flagged.

        Returns:
            ``None`` when so few labelled images cannot tell at that rate (k is 0).
        """
        k = int(np.floor(rate * (len(self.similarities) + 1) + 1e-9))
        return None if k < 1 else float(self.similarities[k - 1])

    def is_unknown(self, cosine: NDArray[Any], rate: float) -> NDArray[np.bool_]:
        """Say of each ``(m,)`` cosine to the nearest labelled image whether it is below."""
        threshold = self.threshold(rate)
        if threshold is None:
            return np.zeros(len(cosine), dtype=bool)
        return np.asarray(cosine) < threshold


def images_needed(rate: float) -> int:
    """Return how many labelled images a rate needs to be told at all."""
    return int(np.ceil(1 / rate - 1 - 1e-9))
