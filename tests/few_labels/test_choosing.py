"""Which images are chosen: typical ones, far ones, none twice, none beside a label."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

from msn_mm.commands.label_suggest import METHODS as NAMES
from msn_mm.few_labels import choosing
from msn_mm.few_labels.choosing import METHODS, NEIGHBOURS, choose, different_rows

from .pixels import digits

SIZES = (90, 60, 40, 25)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def groups() -> tuple[np.ndarray, np.ndarray]:
    """Four groups far from each other, shuffled, and the number of each row's group."""
    rng = np.random.default_rng(0)
    centres = np.eye(len(SIZES), 8) * 10
    number = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    return unit(centres[number] + rng.standard_normal((len(number), 8))), number


NONE = np.empty((0, 8), dtype=np.float32)


def indices(*args: object, **kwargs: object) -> list[int]:
    return [one.index for one in choose(*args, **kwargs)]  # type: ignore[arg-type]


def test_the_command_offers_all_methods() -> None:
    assert list(NAMES) == list(METHODS)


def test_typical_is_the_smallest_mean_distance_to_neighbours_largest_group_first(
    groups: tuple[np.ndarray, np.ndarray],
) -> None:
    rows, number = groups
    expected = []
    for k, size in enumerate(SIZES):
        members = np.flatnonzero(number == k)
        part = rows[members].astype(np.float64)
        pairs = np.sort(np.linalg.norm(part[:, None] - part[None], axis=2), axis=1)
        typicality = 1 / pairs[:, 1 : 1 + min(NEIGHBOURS, size - 1)].mean(axis=1)
        expected.append(int(members[typicality.argmax()]))
    found = choose(rows, NONE, len(SIZES), "typical")
    assert [one.index for one in found] == expected
    assert [one.reason for one in found] == [
        f"most typical of a group of {size} images" for size in SIZES
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_group_with_a_label_is_covered(
    groups: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    rows, number = groups
    labelled = rows[[np.flatnonzero(number == k)[0] for k in (0, 2)]]
    chosen = [number[indices(rows, labelled, 2, method, seed)].tolist() for seed in range(20)]
    if method == "typical":
        assert all(sorted(one) == [1, 3] for one in chosen)
    else:  # it draws; by chance 60 % would lie there
        assert np.isin(chosen, (0, 2)).mean() < 0.2
    # an image that has a label is not suggested, under whatever name
    everything = indices(rows, labelled, len(rows), method)
    assert len(everything) == len(set(everything)) == len(rows) - 2


def test_far_ones_are_those_of_the_library(groups: tuple[np.ndarray, np.ndarray]) -> None:
    rows, number = groups
    _, expected = kmeans_plusplus(rows, 4, random_state=np.random.RandomState(3))
    assert indices(rows, NONE, 4, "kmeans++", 3) == expected.tolist()
    assert len({number[i] for i in expected}) == 4


@pytest.mark.parametrize("method", METHODS)
def test_equal_features_are_suggested_once(
    groups: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    rows, _ = groups
    # a burst: many copies of one image would else be the densest place of all
    copies = np.concatenate([rows[:30], np.repeat(rows[7:8], 40, axis=0), rows[30:60]])
    assert different_rows(copies, rows[:2]).tolist() == [*range(2, 30), *range(70, 100)]
    chosen = indices(copies, rows[:2], 1000, method)
    assert sorted(chosen) == different_rows(copies, rows[:2]).tolist()
    assert indices(np.repeat(rows[:1], 5, axis=0), rows[:1], 3, method) == []
    assert indices(np.zeros((4, 8), np.float32), NONE, 3, method) == [0]


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_all(
    groups: tuple[np.ndarray, np.ndarray], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = groups
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    chosen = indices(rows, NONE, 20, method, 5)
    assert chosen == indices(rows, NONE, 20, method, 5)
    assert chosen != indices(rows, NONE, 20, method, 6)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    # as for a million images: mini-batches, and some that stand for a cluster
    monkeypatch.setattr(choosing, "_WHOLE_BATCH", 100)
    monkeypatch.setattr(choosing, "_STAND_FOR_A_CLUSTER", 30)
    many = indices(rows, NONE, 4, method, 5)
    assert many == indices(rows, NONE, 4, method, 5)
    assert len(set(groups[1][many])) == 4 or method != "typical"


def test_more_than_stand_for_the_groups_are_chosen_in_turn(
    groups: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, number = groups
    # four clusters for eight images: as where copies leave fewer groups than were asked for
    exact = KMeans(4, n_init=3, random_state=0).fit_predict(rows)
    monkeypatch.setattr(choosing, "_clusters", lambda *_: exact.astype(np.int64))
    found = choose(rows, NONE, 8, "typical")
    assert [number[one.index] for one in found] == [0, 1, 2, 3] * 2
    assert found[5].reason == "number 2 in typicality of a group of 60 images"


def test_what_is_impossible_is_told() -> None:
    with pytest.raises(ValueError, match="number 0"):
        choose(NONE, NONE, 0, "typical")
    with pytest.raises(ValueError, match="method 'best'"):
        choose(NONE, NONE, 1, "best")


@pytest.mark.parametrize("method", METHODS)
def test_near_copies_of_labelled_images_are_suggested_where_nothing_else_is_left(
    method: str,
) -> None:
    labelled = np.eye(4, dtype=np.float32)
    # other numbers, and by the rounding of float32 no distance
    near = labelled + np.float32(1e-30)
    assert len(different_rows(near, labelled)) == 4
    assert len(set(indices(near, labelled, 3, method))) == 3


@pytest.mark.parametrize(("method", "least"), [("typical", 1.5), ("kmeans++", 1.0)])
def test_ten_suggested_digits_show_more_classes_than_ten_random_ones(
    method: str, least: float
) -> None:
    features, labels = digits()
    rows = features[:1297].astype(np.float32)
    seeds = range(8)
    random = [np.random.default_rng(seed).permutation(len(rows))[:10] for seed in seeds]
    chosen = [indices(rows, rows[:0], 10, method, seed) for seed in seeds]
    suggested, by_chance = (
        np.mean([len(set(labels[list(one)].tolist())) for one in side]) for side in (chosen, random)
    )
    assert suggested > by_chance + least
