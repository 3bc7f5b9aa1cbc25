from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from msn_mm.errors import UserError
from msn_mm.evaluation import center_and_normalize, choose_lambda, fit_logistic_regression
from msn_mm.evaluation import cross_validation as module
from msn_mm.evaluation.cross_validation import LAMBDAS, stratified_folds

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _noisy(per_class: int) -> Problem:
    """Four classes that differ a little in all of 50 noisy directions: only averages help."""
    rng = np.random.default_rng(0)
    means = np.random.default_rng(5).normal(size=(4, 50)) * 0.2

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % 4
        return center_and_normalize(means[labels] + rng.normal(size=(n, 50))), labels

    return *draw(4 * per_class), *draw(4000)


def _slabs(per_class: int) -> Problem:
    """Classes that are thin parallel slabs of a wide cloud: a strong penalty blurs them."""
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % 3
        x = rng.normal(size=(n, 6)) * 4
        x[:, 0] = labels - 1 + 0.1 * rng.normal(size=n)
        x[:, 1] = 4.0  # in place of an intercept
        return center_and_normalize(np.concatenate([x, -x], axis=1)), labels

    return *draw(3 * per_class), *draw(1500)


def _held_out(problem: Problem, lambd: float) -> float:
    x, y, query, truth = problem
    return float((fit_logistic_regression(x, y, lambd).predict(query) == truth).mean())


def test_noise_asks_for_a_strong_penalty_and_fine_differences_for_a_weak_one() -> None:
    noisy, fine = _noisy(60), _slabs(30)
    strong, weak = choose_lambda(*noisy[:2]), choose_lambda(*fine[:2])
    assert strong.lambd >= 0.8
    assert weak.lambd <= 0.0025
    # and each is right about images that it has not seen
    assert _held_out(noisy, strong.lambd) > _held_out(noisy, weak.lambd) + 0.05
    assert _held_out(fine, weak.lambd) > _held_out(fine, strong.lambd) + 0.1


def test_the_choice_is_that_of_a_slow_loop_with_scikit_learn() -> None:
    x, y, _, _ = _noisy(6)
    tried = (0.025, 0.8, 8.0)
    choice = choose_lambda(x, y, tried, tol=1e-9, max_epochs=5000, seed=3)
    fold = stratified_folds(y, 5, seed=3)
    for lambd in tried:
        right, loss = 0, 0.0
        for number in range(5):
            train, test = fold != number, fold == number
            model = LogisticRegression(C=1 / lambd, fit_intercept=False, tol=1e-9, max_iter=5000)
            model.fit(x[train], y[train])
            right += int((model.predict(x[test]) == y[test]).sum())
            loss -= model.predict_log_proba(x[test])[np.arange(test.sum()), y[test]].sum()
        assert choice.accuracy[lambd] == pytest.approx(100 * right / len(y))
        assert choice.log_loss[lambd] == pytest.approx(loss / len(y), rel=1e-4)
    assert choice.cross_validated
    assert choice.lambd == max(tried, key=lambda v: (choice.accuracy[v], -choice.log_loss[v]))


class _Fake:
    """A classifier of known accuracy and loss."""

    def __init__(self, right: int, loss: float) -> None:
        self.right, self.loss = right, loss

    def ranks(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return (np.arange(len(labels)) >= self.right).astype(int)

    def log_loss(self, features: np.ndarray, labels: np.ndarray) -> float:
        return self.loss


@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        ({0.1: (2, 5.0), 1.0: (1, 0.1), 10.0: (1, 0.1)}, 0.1),  # accuracy first
        ({0.1: (2, 0.4), 1.0: (2, 0.3), 10.0: (2, 0.5)}, 1.0),  # then the loss
        ({0.1: (2, 0.3), 10.0: (2, 0.3), 1.0: (2, 0.3)}, 10.0),  # then the stronger penalty
    ],
)
def test_ties(outcomes: dict, best: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "fit_logistic_regression", lambda x, y, lambd, *_, **__: _Fake(*outcomes[lambd])
    )
    labels = np.repeat([0, 1], 10)
    assert choose_lambda(np.zeros((20, 2)), labels, tuple(outcomes)).lambd == best


def test_no_fold_is_fitted_on_what_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _, _ = _noisy(3)
    fitted = []
    fit = fit_logistic_regression

    def watch(features, labels, *args, **kwargs):
        fitted.append({row.tobytes() for row in features})
        assert set(labels) == set(y)
        return fit(features, labels, *args, **kwargs)

    monkeypatch.setattr(module, "fit_logistic_regression", watch)
    choose_lambda(x, y, (0.1, 1.0))
    # three images a class make three folds
    assert [len(rows) for rows in fitted] == [8] * 6
    everything = {row.tobytes() for row in x}
    assert set.union(*(everything - rows for rows in fitted)) == everything


def test_one_image_of_some_class_leaves_the_released_value() -> None:
    x, y, _, _ = _noisy(2)
    choice = choose_lambda(x[:-1], y[:-1])
    assert (choice.lambd, choice.cross_validated) == (0.0025, False)
    assert choice.accuracy == {}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_stratified_and_a_function_of_the_seed(folds: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([-1, 4, 9], [7, 13, 22]))
    fold = stratified_folds(labels, folds)
    sizes = np.bincount(fold, minlength=folds)
    assert np.ptp(sizes) <= 1
    for label in (-1, 4, 9):
        shares = np.bincount(fold[labels == label], minlength=folds)
        assert np.ptp(shares) <= 1
    assert np.array_equal(fold, stratified_folds(labels, folds))
    assert not np.array_equal(fold, stratified_folds(labels, folds, seed=1))


def test_wrong_arguments() -> None:
    x, y, _, _ = _noisy(2)
    with pytest.raises(ValueError, match="lambdas"):
        choose_lambda(x, y, ())
    with pytest.raises(ValueError, match="above 0"):
        choose_lambda(x, y, (0.1, 0.0))
    with pytest.raises(UserError, match="at least 2 classes"):
        choose_lambda(x, np.zeros(len(x), dtype=int))
    assert tuple(sorted(LAMBDAS)) == LAMBDAS
    assert 0.0025 in LAMBDAS
