"""Keys: equal to the index, pure, and different wherever they should be."""

from __future__ import annotations

import pickle

import numpy as np

from msn_mm.datasets import SampleKey
from msn_mm.datasets.keys import PERMUTATION_STREAM, ReusableGenerator


def test_key_is_its_index() -> None:
    key = SampleKey(7, seed=3, epoch=5)
    assert key == 7 and hash(key) == hash(7) and [*range(10)][key] == 7
    again = pickle.loads(pickle.dumps(key))
    assert (again, again.seed, again.epoch) == (7, 3, 5)
    assert isinstance(again, SampleKey)


def test_plain_index_counts_as_seed_0_epoch_0() -> None:
    key = SampleKey.of(4)
    assert (key, key.seed, key.epoch) == (4, 0, 0)
    own = SampleKey(4, 1, 2)
    assert SampleKey.of(own) is own


def test_generators_are_pure_and_differ_in_each_part() -> None:
    first = SampleKey(7, 3, 5).generator(2).random(4)
    np.testing.assert_array_equal(first, SampleKey(7, 3, 5).generator(2).random(4))
    others = [
        SampleKey(8, 3, 5).generator(2),
        SampleKey(7, 4, 5).generator(2),
        SampleKey(7, 3, 6).generator(2),
        SampleKey(7, 3, 5).generator(3),
        SampleKey(7, 3, 5).generator(2, PERMUTATION_STREAM),
    ]
    for other in others:
        assert not np.isin(other.random(4), first).any()


def test_streams_of_neighbours_never_overlap() -> None:
    # The counter's lowest word is the draw: a long draw must not run into the
    # next view's numbers.
    long = SampleKey(0, 0, 0).generator(0).random(10_000)
    assert not np.isin(SampleKey(0, 0, 0).generator(1).random(50), long).any()


def test_reusable_generator_draws_the_same() -> None:
    reusable = pickle.loads(pickle.dumps(ReusableGenerator()))
    for index, view in ((0, 0), (5, 3), (5, 2)):
        key = SampleKey(index, 11, 2)
        left, right = reusable.at(key, view), key.generator(view)
        np.testing.assert_array_equal(left.random(2), right.random(2))
        # 32-bit draws leave half a word behind, which the next place must not see.
        np.testing.assert_array_equal(
            left.integers(99, size=3, dtype=np.uint32), right.integers(99, size=3, dtype=np.uint32)
        )


def test_view_keys_are_uniform_32_bit_words() -> None:
    keys = [key for i in range(2000) for key in SampleKey(i, 1, 1).view_keys(range(5))]
    assert SampleKey(9, 1, 1).view_key(3) == SampleKey(9, 1, 1).view_keys(range(5))[3]
    assert min(keys) >= 0 and max(keys) < 2**32
    assert len(set(keys)) >= len(keys) - 1
    bits = np.unpackbits(np.array(keys, dtype=np.uint32).view(np.uint8)).reshape(-1, 32)
    # Each bit is fair: 10,000 draws have a standard deviation of 0.005.
    assert np.abs(bits.mean(0) - 0.5).max() < 0.025


def test_view_keys_differ_in_each_part() -> None:
    words = {
        SampleKey(i, s, e).view_key(v)
        for i in range(4)
        for s in range(4)
        for e in range(4)
        for v in range(4)
    }
    assert len(words) == 4**4
