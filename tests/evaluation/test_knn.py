from __future__ import annotations

import math

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation import knn, weighted_knn, weighted_knn_accuracy


def _data(seed: int, n: int, spread: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(5, 10)) * 1.5
    labels = rng.integers(5, size=n)
    return (centres[labels] + spread * rng.normal(size=(n, 10))).astype(np.float32), labels


def _slow(
    support: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, temperature: float
) -> list[int]:
    """The same definition, one query and one neighbour at a time."""
    answers = []
    for q in query.astype(float):
        similarity = [
            float(q @ s / (np.linalg.norm(q) * np.linalg.norm(s))) for s in support.astype(float)
        ]
        nearest = sorted(range(len(support)), key=lambda i: (-similarity[i], i))[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            label = int(labels[i])
            votes[label] = votes.get(label, 0.0) + math.exp(similarity[i] / temperature)
        answers.append(min(votes, key=lambda label: (-votes[label], label)))
    return answers


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (10, 1.0), (60, 0.3)])
@pytest.mark.parametrize("block", [None, 1, 700])
def test_agrees_with_a_slow_loop(
    k: int, temperature: float, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr(knn, "_BLOCK_ENTRIES", block)
    support, support_labels = _data(0, 60)
    query, _ = _data(1, 40)
    expected = _slow(support, support_labels, query, k, temperature)
    args = (k, temperature)
    # exact agreement of every prediction: each query is its own data set
    assert weighted_knn_accuracy(support, support_labels, query, np.array(expected), *args) == 100
    for i, answer in enumerate(expected[:10]):
        wrong = np.array([answer + 1])
        assert weighted_knn_accuracy(support, support_labels, query[i : i + 1], wrong, *args) == 0


def test_weights_matter() -> None:
    # one near image of class 1 against two far ones of class 0
    support = np.array([[1.0, 0.05], [0.0, 1.0], [-0.1, 1.0]])
    query, labels = np.array([[1.0, 0.0]]), np.array([1, 0, 0])
    assert weighted_knn_accuracy(support, labels, query, np.array([1]), 3, 0.07) == 100
    assert weighted_knn_accuracy(support, labels, query, np.array([0]), 3, 1e4) == 100


def test_ties_go_to_the_smaller_index_and_the_smaller_label() -> None:
    one = np.array([[1.0, 0.0]])
    same = np.repeat(one, 50, axis=0)
    labels = np.array([3] * 25 + [1] * 25)
    # the first 10 of 50 equal neighbours all say 3
    assert weighted_knn_accuracy(same, labels, one, np.array([3]), k=10) == 100
    # all 50 vote: 25 against 25
    assert weighted_knn_accuracy(same, labels, one, np.array([1]), k=50) == 100
    assert weighted_knn_accuracy(same, labels, one, np.array([3]), k=50) == 0


def test_a_tiny_temperature_does_not_overflow() -> None:
    support, labels = _data(0, 30)
    nearest = weighted_knn_accuracy(support, labels, support, labels, k=5, temperature=1e-5)
    assert nearest == 100


def test_wrong_arguments() -> None:
    support, labels = _data(0, 6)
    with pytest.raises(UserError, match=r"k=7 needs at least 7.*there are 6"):
        weighted_knn_accuracy(support, labels, support, labels, k=7)
    with pytest.raises(ValueError, match="k must"):
        weighted_knn_accuracy(support, labels, support, labels, k=0)
    with pytest.raises(ValueError, match="temperature"):
        weighted_knn_accuracy(support, labels, support, labels, k=1, temperature=0)
    with pytest.raises(ValueError, match="no query"):
        weighted_knn_accuracy(support, labels, support[:0], labels[:0], k=1)
    with pytest.raises(UserError, match="not finite"):
        weighted_knn_accuracy(support * np.nan, labels, support, labels, k=1)


def _brute_force(
    support: np.ndarray,
    labels: np.ndarray,
    query: np.ndarray,
    truth: np.ndarray,
    k: int,
    temperature: float,
) -> dict[str, float]:
    """The definition in numpy: all similarities, all votes, all orders."""
    keys = support / np.linalg.norm(support, axis=1, keepdims=True)
    queries = query / np.linalg.norm(query, axis=1, keepdims=True)
    similarity = queries @ keys.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weights = np.exp(np.take_along_axis(similarity, nearest, axis=1) / temperature)
    classes = np.unique(labels)
    votes = (weights[:, :, None] * (labels[nearest][:, :, None] == classes)).sum(axis=1)
    best = np.where(np.sort(-votes, axis=1) < 0, classes[np.argsort(-votes, axis=1)], -1)
    return {
        "top1": 100 * (best[:, 0] == truth).mean(),
        "top5": 100 * (best[:, :5] == truth[:, None]).any(axis=1).mean(),
    }


@pytest.mark.parametrize("block", [None, 1, 700])
def test_several_k_in_one_search_agree_with_brute_force(
    block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr(knn, "_BLOCK_ENTRIES", block)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))
    labels, truth = rng.integers(12, size=200), rng.integers(12, size=150)
    support = centres[labels] + 1.5 * rng.normal(size=(200, 8))
    query = centres[truth] + 1.5 * rng.normal(size=(150, 8))
    ks = (10, 200, 1, 50)
    result = weighted_knn(support, 3 * labels - 5, query, 3 * truth - 5, ks, 0.2)
    assert tuple(result) == ks
    for k in ks:
        expected = _brute_force(support, labels, query, truth, k, 0.2)
        assert result[k] == pytest.approx(expected)
        alone = weighted_knn_accuracy(support, labels, query, truth, k, 0.2)
        assert alone == result[k]["top1"]
    assert result[1]["top5"] == result[1]["top1"]
    assert 10 < result[10]["top1"] < result[10]["top5"] < 100


def test_a_smaller_k_cuts_ties_by_index() -> None:
    one = np.array([[1.0, 0.0]])
    same = np.repeat(one, 60, axis=0)
    labels = np.array([3] * 5 + [1] * 55)
    result = weighted_knn(same, labels, one, np.array([3]), ks=(5, 9, 11, 60))
    assert {k: value["top1"] for k, value in result.items()} == {5: 100, 9: 100, 11: 0, 60: 0}
    assert {value["top5"] for value in result.values()} == {100}


def test_a_query_of_a_label_that_no_support_image_has_is_wrong() -> None:
    support, labels = _data(0, 30)
    result = weighted_knn(support, labels, support[:2], np.array([-1, 77]), ks=(1, 30))
    assert result == {1: {"top1": 0.0, "top5": 0.0}, 30: {"top1": 0.0, "top5": 0.0}}


def test_a_vote_too_small_for_a_float_is_still_an_answer() -> None:
    # the nearest says 7, the next 8; labels 0 to 6 belong to images farther away
    support = np.stack([np.cos(np.arange(9) / 3), np.sin(np.arange(9) / 3)], axis=1)
    labels = np.array([7, 8, *range(7)])
    query = np.array([[1.0, 0.1]])
    far = weighted_knn(support, labels, query, np.array([8]), ks=(1, 2), temperature=1e-5)
    assert far == {1: {"top1": 0.0, "top5": 0.0}, 2: {"top1": 0.0, "top5": 100.0}}


def test_wrong_numbers_of_neighbours() -> None:
    support, labels = _data(0, 6)
    with pytest.raises(ValueError, match="ks must"):
        weighted_knn(support, labels, support, labels, ks=())
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        weighted_knn(support, labels, support, labels, ks=(3, 0))
    with pytest.raises(UserError, match=r"k=10 needs.*use k <= 6"):
        weighted_knn(support, labels, support, labels, ks=(1, 10))
