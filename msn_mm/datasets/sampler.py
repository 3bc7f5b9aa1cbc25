"""The sampler that hands out keys, alike on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from msn_mm.datasets.keys import PERMUTATION_STREAM, SampleKey, philox
from msn_mm.errors import UserError
from msn_mm.registry import DATA_SAMPLERS

_PIECE = 8192


@DATA_SAMPLERS.register_module()
class KeyedSampler(Sampler[int]):
    """Give every rank its share of one permutation, as :class:`SampleKey`.

    The permutation depends on (seed, epoch) alone and rank r takes the places
    r, r + W, r + 2W, ... of it. The first ``t * global_batch`` images that all
    ranks together have seen are therefore the same set for any number of
    ranks W. Images that do not divide by W are left out of the epoch (others
    each epoch), so that all ranks take equally many steps. A run that goes on
    within an epoch leaves out the images that were seen before, whatever the
    number of ranks that saw them, by :meth:`skip`.

    Args:
        dataset: The data set to sample; only its length is used.
        shuffle: Permute; otherwise go in order.
        seed: Seed of the run; ``None`` draws one that all ranks share.
        multiple: A rank's share is cut to a multiple of this many images. With
            gradient accumulation an epoch then ends with an optimizer step.

    Raises:
        ValueError: If ``multiple`` is below 1.
        UserError: If the data set holds fewer images than there are ranks.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        multiple: int = 1,
    ) -> None:
        if multiple < 1:
            raise ValueError(f"multiple must be at least 1, not {multiple}")
        self.rank, self.world_size = get_dist_info()
        self.total = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.multiple = multiple
        self.epoch = 0
        self.skipped = 0
        if self.total < self.world_size:
            raise UserError(
                f"the data set holds {self.total} images, fewer than the {self.world_size} "
                "processes that share it; add images or start fewer processes"
            )

    def __len__(self) -> int:
        return self._share(self.total)

    def _share(self, images: int) -> int:
        return images // self.world_size // self.multiple * self.multiple

    @property
    def left(self) -> int:
        """Images that this rank gets of the epoch, without those left out by :meth:`skip`."""
        return self._share(max(self.total - self.skipped, 0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = int(epoch)

    def skip(self, images: int) -> None:
        """Leave out the first images of the epoch's permutation, in every iteration from now on.

        Args:
            images: How many images all ranks together have seen; 0 for a whole epoch.
        """
        self.skipped = int(images)

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            order = philox(self.seed, self.epoch, 0, 0, PERMUTATION_STREAM).permutation(self.total)
        else:
            order = np.arange(self.total)
        mine = order[self.skipped :][self.rank :: self.world_size][: self.left]
        # In pieces: a million numbers of Python's own would take 40 MB for the whole epoch.
        seed, epoch = self.seed, self.epoch
        return (
            SampleKey(index, seed, epoch)
            for begin in range(0, len(mine), _PIECE)
            for index in mine[begin : begin + _PIECE].tolist()
        )
