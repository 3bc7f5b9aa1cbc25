from __future__ import annotations

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation import low_shot_split


def _labels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(4), [9, 12, 7, 20]))


@pytest.mark.parametrize("shots", [1, 2, 5, 7])
def test_split_is_balanced_and_sorted(shots: int) -> None:
    labels = _labels()
    chosen = low_shot_split(labels, shots, split=3)
    assert np.array_equal(np.bincount(labels[chosen]), [shots] * 4)
    assert np.all(np.diff(chosen) > 0)


def test_split_is_a_function_of_seed_and_number() -> None:
    labels = _labels()
    first = low_shot_split(labels, 5, split=0, seed=1)
    assert np.array_equal(first, low_shot_split(labels.astype(np.int32), 5, split=0, seed=1))
    assert not np.array_equal(first, low_shot_split(labels, 5, split=1, seed=1))
    assert not np.array_equal(first, low_shot_split(labels, 5, split=0, seed=2))


def test_fewer_shots_are_contained_in_more() -> None:
    labels = _labels()
    sets = [set(low_shot_split(labels, n, split=4).tolist()) for n in (1, 2, 5)]
    assert sets[0] < sets[1] < sets[2]


def test_every_image_has_the_same_chance() -> None:
    labels = np.repeat([0, 1], 10)
    hits = sum(np.bincount(low_shot_split(labels, 1, split=s), minlength=20) for s in range(2000))
    # binomial(2000, 0.1): standard deviation 13.4
    assert np.abs(hits - 200).max() < 60


def test_more_shots_than_images_names_the_class_and_the_most_possible() -> None:
    with pytest.raises(UserError, match=r"8 labelled images.*class 'cat' has 7; ask for at most 7"):
        low_shot_split(_labels(), 8, split=0, class_names=["ant", "bee", "cat", "dog"])
    with pytest.raises(UserError, match="class 2 has 7"):
        low_shot_split(_labels(), 8, split=0)


@pytest.mark.parametrize(
    ("labels", "shots", "split", "seed"),
    [
        (np.array([0.5, 1.0]), 1, 0, 0),
        (np.array([], dtype=int), 1, 0, 0),
        (np.array([0, 1]), 0, 0, 0),
        (np.array([0, 1]), 1, -1, 0),
        (np.array([0, 1]), 1, 0, -1),
    ],
)
def test_wrong_arguments(labels: np.ndarray, shots: int, split: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must"):
        low_shot_split(labels, shots, split, seed)
