"""Where all randomness of the data comes from: (seed, epoch, index, view).

The sampler hands out a :class:`SampleKey` in place of a bare index. Every crop,
flip, jitter, blur and mask is drawn from the key, so what a sample looks like
does not depend on the worker, the rank, or the moment that asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

_WORD = (1 << 64) - 1

# Which purpose a counter serves; the last word of the Philox counter, so that
# two purposes never share a number.
VIEW_STREAM = 0
PERMUTATION_STREAM = 1
REPLACEMENT_STREAM = 2
AUGMENTATION_STREAM = 3


def philox(seed: int, epoch: int, index: int, view: int, stream: int) -> np.random.Generator:
    """Return a generator that is a pure function of its five arguments.

    Philox is counter-based: (seed, epoch) is its key, (view, index, stream) the
    upper words of its counter, so no two calls overlap below 2**64 draws.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    key = np.array([seed & _WORD, epoch & _WORD], dtype=np.uint64)
    counter = np.array([0, view & _WORD, index & _WORD, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class ReusableGenerator:
    """One generator, set to a place instead of built anew: 2 us in place of 12.

    For the data worker's inner loop. What :meth:`at` returns is valid until its
    next call.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        self._key = np.zeros(2, dtype=np.uint64)
        self._counter = np.zeros(4, dtype=np.uint64)
        self._state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": self._key},
            # No number is left over from the place before.
            "buffer": np.zeros(4, dtype=np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def __reduce__(self) -> tuple[type[ReusableGenerator], tuple[()]]:
        # It has no state between calls, and a copied generator need not share
        # its bits with a copied bit generator.
        return type(self), ()

    def at(self, key: SampleKey, view: int) -> np.random.Generator:
        """Return a generator that draws what ``key.generator(view)`` draws."""
        self._key[:] = key.seed & _WORD, key.epoch & _WORD
        self._counter[:] = 0, view & _WORD, int(key) & _WORD, VIEW_STREAM
        self._bits.state = self._state
        return self._generator


def _absorb(word: int, part: int) -> int:
    # The odd constant (2**64 / golden ratio) separates equal parts at different
    # places.
    return _mix((word + part + 0x9E3779B97F4A7C15) & _WORD)


def _mix(word: int) -> int:
    """Mix 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


class SampleKey(int):
    """An index into a data set that also carries the seed and the epoch.

    It equals, hashes and indexes as the plain ``int``.

    Args:
        index: Position in the data set.
        seed: Seed of the run.
        epoch: Epoch, from 0.
    """

    seed: int
    epoch: int

    def __new__(cls, index: int, seed: int = 0, epoch: int = 0) -> SampleKey:
        key = super().__new__(cls, index)
        key.seed = int(seed)
        key.epoch = int(epoch)
        return key

    def __reduce__(self) -> tuple[type[SampleKey], tuple[int, int, int]]:
        return type(self), (int(self), self.seed, self.epoch)

    def __repr__(self) -> str:
        return f"SampleKey({int(self)}, seed={self.seed}, epoch={self.epoch})"

    @classmethod
    def of(cls, index: int) -> SampleKey:
        """Return ``index`` if it is a key already, else its key of seed 0, epoch 0."""
        return index if isinstance(index, SampleKey) else cls(int(index))

    def generator(self, view: int, stream: int = VIEW_STREAM) -> np.random.Generator:
        """Return the generator of one view; the same whenever and wherever it is asked for."""
        return philox(self.seed, self.epoch, int(self), view, stream)

    def view_key(self, view: int) -> int:
        """Return 32 unsigned bits for what the device draws for this view (mask, drop path)."""
        return self.view_keys([view])[0]

    def view_keys(self, views: Iterable[int]) -> list[int]:
        """Return :meth:`view_key` of several views."""
        word = _absorb(_absorb(_absorb(0, self.seed), self.epoch), int(self))
        return [_absorb(word, view) >> 32 for view in views]
