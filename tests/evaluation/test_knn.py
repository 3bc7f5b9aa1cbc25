from __future__ import annotations

import math

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation import knn, weighted_knn_accuracy


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
