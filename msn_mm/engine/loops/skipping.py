"""An epoch begun in the middle: the images that were seen are neither read nor decoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_world_size
from torch.utils.data import BatchSampler, DataLoader, Sampler


class RestOfSampler(Sampler[int]):
    """A sampler without the first ``skipped`` indices of each iteration; its length stays whole."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.skipped = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.skipped, None)

    def set_epoch(self, epoch: int) -> None:
        """Hand the epoch on."""
        self.sampler.set_epoch(epoch)


def can_skip(loader: DataLoader) -> bool:
    """Return whether a loader's order is known without reading it: plain batches by epoch.

    A sampler that shuffles by a generator of its own, or a batch sampler that
    looks at the images, has another order each time.
    """
    return type(loader.batch_sampler) is BatchSampler and hasattr(loader.sampler, "set_epoch")


def images_a_step(loader: DataLoader) -> int:
    """Return how many images one iteration takes over all processes."""
    own = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
    return int(own) * get_world_size()


def skip_images(loader: DataLoader, images: int) -> int:
    """Leave out what all processes together have seen of the epoch.

    Args:
        loader: a loader that :func:`can_skip`.
        images: number of images; 0 for a whole epoch.

    Returns:
        The iterations of the epoch that remain for each process.
    """
    batches: Any = loader.batch_sampler
    sampler: Any = loader.sampler
    if hasattr(sampler, "skip"):
        sampler.skip(images)
        left = sampler.left
    else:
        # Samplers of torch and MMEngine deal their permutation out by turns too.
        if not isinstance(batches.sampler, RestOfSampler):
            batches.sampler = RestOfSampler(batches.sampler)
        batches.sampler.skipped = images // get_world_size()
        left = max(len(batches.sampler) - batches.sampler.skipped, 0)
    return left // batches.batch_size if batches.drop_last else -(-left // batches.batch_size)
