"""An order that is random, and yet reads large files one after another.

Images that lie together in a group (a tar file, a row group of Parquet) are
cheap to read together and dear to read one by one from all over the data. The
order here shuffles the groups, takes a few of them at a time, a window, and
shuffles the images within.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.keys import PERMUTATION_STREAM, philox


@dataclass(frozen=True)
class EpochOrder:
    """In which order an epoch shows the images, and what it needs when.

    Attributes:
        images: ``(n,)`` the images.
        ends: ``(w,)`` how many images the first 1, 2, ... w windows hold together.
        groups: For each window the groups that it reads, in the order of the permutation.
    """

    images: NDArray[np.int64]
    ends: NDArray[np.int64]
    groups: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Windows:
    """How the images of a data set lie in groups, and how many groups are read together.

    How random the order is: groups are permuted over the whole epoch, and an
    image comes anywhere within its window. Images of one group never are more
    than a window apart; of two groups, the chance to share a window is
    ``(span - 1) / (groups - 1)``. With ``span`` at the number of groups it is the
    permutation of all images.

    Args:
        groups: ``(n,)`` the group of each image.
        span: Groups of a window.
        prepare: Is told, as a window begins, its groups and then those of the next one;
            what it was told before is no longer wanted.

    Raises:
        ValueError: If ``span`` is below 1.
    """

    groups: NDArray[np.int64]
    span: int
    prepare: Callable[[Sequence[int]], None] | None = None

    def __post_init__(self) -> None:
        if self.span < 1:
            raise ValueError(f"a window holds 1 group or more, not {self.span}")

    def of(self, indices: Any) -> Windows:
        """Return the windows of some of the images, which count anew from 0."""
        return replace(self, groups=self.groups[np.asarray(indices, dtype=np.int64)])

    def order(self, seed: int, epoch: int) -> EpochOrder:
        """Return an epoch's order, a pure function of (seed, epoch) and the groups."""
        rng = philox(seed, epoch, 0, 0, PERMUTATION_STREAM)
        present, number = np.unique(self.groups, return_inverse=True)
        place = rng.permutation(len(present))
        window = place[number] // self.span
        images = np.lexsort((rng.permutation(len(self.groups)), window))
        sequence = present[np.argsort(place)]
        return EpochOrder(
            images=images,
            ends=np.bincount(window).cumsum(),
            groups=np.split(sequence, range(self.span, len(sequence), self.span)),
        )

    def reading(self, order: EpochOrder, places: range) -> Iterator[int]:
        """Yield the images at some places of an order, windows prepared one ahead.

        Args:
            order: The order.
            places: Which of its places, ascending.
        """
        ready = -1
        for place in places:
            window = int(np.searchsorted(order.ends, place, side="right"))
            if window > ready and self.prepare is not None:
                self.prepare(np.concatenate(order.groups[window : window + 2]).tolist())
            ready = window
            yield int(order.images[place])


def windows_of(dataset: Any) -> Windows | None:
    """Return the windows in which a data set is to be read; None for any order."""
    return getattr(dataset, "windows", None)
