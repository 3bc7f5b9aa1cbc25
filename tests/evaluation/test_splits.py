from __future__ import annotations

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation import compact, draw_splits, fraction_split, low_shot_split


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


def test_a_fraction_is_stratified_and_takes_one_of_each_class_at_least() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 3, 7], [200, 7, 1300]))
    chosen = fraction_split(labels, 0.01, split=2)
    assert np.array_equal(np.bincount(labels[chosen])[[0, 3, 7]], [2, 1, 13])
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(fraction_split(labels, 1.0, split=2), np.arange(len(labels)))


def test_fractions_are_nested_and_share_their_order_with_balanced_splits() -> None:
    labels = np.repeat([0, 1], [40, 60])
    sets = [set(fraction_split(labels, f, split=1, seed=3).tolist()) for f in (0.05, 0.1, 0.5)]
    assert sets[0] < sets[1] < sets[2]
    even = np.repeat([0, 1], 50)
    assert np.array_equal(fraction_split(even, 0.1, 1, 3), low_shot_split(even, 5, 1, 3))
    assert set(fraction_split(labels, 0.1, 0).tolist()) != sets[1]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, 5, float("nan")])
def test_impossible_fractions(fraction: float) -> None:
    with pytest.raises(UserError, match="above 0 and at most 1"):
        fraction_split(_labels(), fraction, 0)


def test_all_splits_of_an_evaluation() -> None:
    labels = _labels()
    drawn = draw_splits(labels, (5, 1), (0.005, 0.5), splits=4, seed=9)
    assert list(drawn) == ["5", "1", "0.5%", "50%"]
    for split in range(4):
        assert np.array_equal(drawn["5"][split], low_shot_split(labels, 5, split, 9))
        assert np.array_equal(drawn["50%"][split], fraction_split(labels, 0.5, split, 9))
    assert [len(subset) for subset in drawn["0.5%"]] == [4] * 4


def test_all_images_are_drawn_once() -> None:
    labels = np.repeat([0, 1], 6)
    drawn = draw_splits(labels, (3, 6), (1.0,), splits=5)
    assert {column: len(subsets) for column, subsets in drawn.items()} == {
        "3": 5,
        "6": 1,
        "100%": 1,
    }
    assert np.array_equal(drawn["6"][0], np.arange(12))


def test_drawing_nothing_or_too_much() -> None:
    with pytest.raises(ValueError, match="splits"):
        draw_splits(_labels(), (1,), splits=0)
    with pytest.raises(ValueError, match="images_per_class or fractions"):
        draw_splits(_labels())
    with pytest.raises(UserError, match="class 'cat' has 7; ask for at most 7"):
        draw_splits(_labels(), (1, 8), class_names=["ant", "bee", "cat", "dog"])


def test_compact_keeps_what_a_split_points_at() -> None:
    labels = _labels()
    drawn = draw_splits(labels, (1, 2), splits=3)
    union, local = compact(drawn)
    assert len(union) < len(labels)
    assert np.all(np.diff(union) > 0)
    assert set(union.tolist()) == {i for column in drawn.values() for s in column for i in s}
    for column, subsets in drawn.items():
        for subset, renumbered in zip(subsets, local[column], strict=True):
            assert np.array_equal(union[renumbered], subset)
