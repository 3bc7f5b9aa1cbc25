from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from msn_mm.evaluation import LinearClassifier, center_and_normalize, fit_logistic_regression
from msn_mm.evaluation import logistic_regression as module

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _digits() -> Problem:
    digits = load_digits()
    x = center_and_normalize(digits.data)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:500], order[500:]
    return x[train], digits.target[train], x[test], digits.target[test]


def _fifty() -> Problem:
    """50 overlapping classes, differences strongest in few directions."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, 65) ** -0.5
    means = rng.normal(size=(50, 64))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % 50
        return center_and_normalize((means[labels] + rng.normal(size=(n, 64))) * spectrum), labels

    return *draw(400), *draw(5000)


def _objective(weights: np.ndarray, x: np.ndarray, y: np.ndarray, lambd: float) -> float:
    nll = -log_softmax(x @ weights, axis=1)[np.arange(len(y)), y]
    return float(nll.mean() + lambd / (2 * len(y)) * (weights**2).sum())


@pytest.mark.parametrize("problem", [_digits, _fifty])
@pytest.mark.parametrize("lambd", [0.0025, 0.25])
def test_agrees_with_scikit_learn_run_to_convergence(problem, lambd: float) -> None:
    x, y, query, _ = problem()
    reference = LogisticRegression(C=1 / lambd, fit_intercept=False, tol=1e-9, max_iter=50_000)
    reference.fit(x, y)
    best = _objective(reference.coef_.T, x, y, lambd)
    exact = fit_logistic_regression(x, y, lambd, tol=1e-6, max_epochs=5000)
    assert exact.gap <= 1e-6
    # relative to the objective
    assert _objective(exact.weights, x, y, lambd) == pytest.approx(best, rel=1e-4)
    assert (exact.predict(query) == reference.predict(query)).mean() >= 0.999
    released = fit_logistic_regression(x, y, lambd)
    assert released.gap <= 1e-3
    assert best <= _objective(released.weights, x, y, lambd) <= best * (1 + 1.1e-3)
    assert (released.predict(query) == reference.predict(query)).mean() >= 0.99


@pytest.mark.parametrize("classes", [2, 4])
def test_too_few_passes_show_in_the_gap(classes: int, recwarn) -> None:
    rng = np.random.default_rng(0)
    x, y = center_and_normalize(rng.normal(size=(60, 8))), np.arange(60) % classes
    short = fit_logistic_regression(x, y, 1e-3, tol=1e-8, max_epochs=2)
    assert short.passes == 2
    assert short.gap > 1e-3
    whole = fit_logistic_regression(x, y, 1e-3, tol=1e-8, max_epochs=5000)
    assert 2 < whole.passes < 5000
    assert whole.gap <= 1e-8
    excess = _objective(short.weights, x, y, 1e-3) / _objective(whole.weights, x, y, 1e-3) - 1
    assert 0 < excess <= short.gap
    assert not recwarn.list


@pytest.fixture(params=[1 << 22, 1, 30])
def block_entries(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", request.param)


@pytest.mark.usefixtures("block_entries")
def test_best_labels_ranks_and_log_loss_against_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    # whole numbers, so that many scores are equal
    classifier = LinearClassifier(
        rng.integers(-1, 2, size=(3, 7)).astype(float), np.array([-2, 0, 3, 4, 9, 10, 40])
    )
    x = rng.integers(-2, 3, size=(50, 3)).astype(float)
    truth = rng.choice(classifier.classes, size=50)
    scores = classifier.decision_function(x)
    order = np.array(
        [
            sorted(
                classifier.classes, key=lambda c, s=s: (-s[list(classifier.classes).index(c)], c)
            )
            for s in scores
        ]
    )
    np.testing.assert_array_equal(scores, x @ classifier.weights)
    np.testing.assert_array_equal(classifier.predict(x), order[:, 0])
    for k in (1, 5, 7, 9):
        np.testing.assert_array_equal(classifier.top_k(x, k), order[:, :k])
    expected = [list(row).index(t) for row, t in zip(order, truth, strict=True)]
    assert classifier.ranks(x, truth).tolist() == expected
    columns = np.searchsorted(classifier.classes, truth)
    nll = -log_softmax(scores, axis=1)[np.arange(50), columns].sum()
    assert classifier.log_loss(x, truth) == pytest.approx(nll)


def test_nothing_to_classify_and_no_best() -> None:
    classifier = LinearClassifier(np.ones((3, 4)), np.arange(4))
    assert classifier.top_k(np.empty((0, 3)), 2).shape == (0, 2)
    assert classifier.predict(np.empty((0, 3))).shape == (0,)
    with pytest.raises(ValueError, match="k must"):
        classifier.top_k(np.ones((1, 3)), 0)


def test_log_loss_of_huge_scores_is_finite() -> None:
    classifier = LinearClassifier(np.array([[1e4, -1e4, 0.0]]), np.arange(3))
    assert classifier.log_loss(np.array([[1.0]]), np.array([1])) == pytest.approx(2e4)
