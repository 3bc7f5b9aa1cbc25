"""The sampler that hands out keys, alike on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from msn_mm.datasets.keys import PERMUTATION_STREAM, SampleKey, philox
from msn_mm.errors import UserError
from msn_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class KeyedSampler(Sampler[int]):
    """Give every rank its share of one permutation, as :class:`SampleKey`.

    The permutation depends on (seed, epoch) alone and rank r takes the places
    r, r + W, r + 2W, ... of it. The first ``t * global_batch`` images that all
    ranks together have seen are therefore the same set for any number of
    ranks W. Images that do not divide by W are left out of the epoch (others
    each epoch), so that all ranks take equally many steps.

    Args:
        dataset: The data set to sample; only its length is used.
        shuffle: Permute; otherwise go in order.
        seed: Seed of the run; ``None`` draws one that all ranks share.

    Raises:
        UserError: If the data set holds fewer images than there are ranks.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.total = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.epoch = 0
        if self.total < self.world_size:
            raise UserError(
                f"the data set holds {self.total} images, fewer than the {self.world_size} "
                "processes that share it; add images or start fewer processes"
            )

    def __len__(self) -> int:
        return self.total // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            order = philox(self.seed, self.epoch, 0, 0, PERMUTATION_STREAM).permutation(self.total)
        else:
            order = np.arange(self.total)
        mine = order[self.rank :: self.world_size][: len(self)]
        return (SampleKey(index, self.seed, self.epoch) for index in mine.tolist())
