"""A temperature and calibration errors, against formulas written another way."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from msn_mm.few_labels import calibration
from msn_mm.few_labels.calibration import (
    expected_calibration_error,
    fit_temperature,
    measure_calibration,
    probabilities,
)


def drawn(temperature: float, n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 5)) * 3
    cumulated = softmax(scores / temperature, axis=1).cumsum(axis=1)
    return scores, (rng.random((n, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    scores, labels = drawn(temperature)
    assert fit_temperature(scores, labels) == pytest.approx(temperature, rel=0.06)


def test_the_temperature_is_the_minimum_of_the_smoothed_cross_entropy() -> None:
    scores, labels = drawn(2.0, n=30)
    found = fit_temperature(scores, labels)

    def loss(temperature: float) -> float:
        total = 0.0
        for row, label in zip(scores, labels, strict=True):
            logs = log_softmax(row / temperature)
            others = logs.sum() - logs[label]
            total -= 31 / 32 * logs[label] + 1 / 32 * others / 4
        return total

    # the slope of the loss is zero there
    step = 1e-4 * found
    assert abs(loss(found + step) - loss(found - step)) / step < 1e-2
    assert loss(found) < min(loss(0.9 * found), loss(1.1 * found))


@pytest.mark.parametrize("n", [10, 50])
def test_all_right_is_not_certainty(n: int) -> None:
    labels = np.arange(n) % 5
    scores = np.eye(5)[labels]
    sure = probabilities(scores, fit_temperature(scores, labels))[np.arange(n), labels]
    assert sure == pytest.approx(np.full(n, (n + 1) / (n + 2)), abs=1e-5)


def test_calibration_error_bin_by_bin() -> None:
    # bins [0.5, 0.6): sure 0.55 and 0.57, one right; [0.9, 1]: 0.95 and 1, both right
    confidence = np.array([0.55, 0.57, 0.95, 1.0])
    right = np.array([True, False, True, True])
    expected = (abs(1 - 1.12) + abs(2 - 1.95)) / 4
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)


def test_what_chance_explains() -> None:
    """Of calibrated probabilities 5 % are called off; of sharpened ones most are."""
    off = {1.0: 0, 0.3: 0}
    for seed in range(30):
        scores, labels = drawn(1.0, n=60, seed=seed)
        for temperature in off:
            found = measure_calibration(softmax(scores / temperature, axis=1), labels, seed)
            off[temperature] += found.is_off
            assert found.low <= found.high
    assert off[1.0] <= 5  # 1.5 are expected; more than 5 come by chance once in 300
    assert off[0.3] >= 20


def test_a_calibration_is_a_function_of_its_seed() -> None:
    scores, labels = drawn(1.0, n=40)
    predicted = softmax(scores, axis=1)
    one, same, other = (measure_calibration(predicted, labels, seed) for seed in (0, 0, 1))
    assert one == same != other
    own = predicted[np.arange(40), labels]
    assert one.log_loss == pytest.approx(-np.log(own).mean())


def test_uncertainty_of_the_error_where_it_is_known() -> None:
    """All are 60 % sure, so the error is the distance of a binomial share from 0.6."""
    predicted, labels = np.tile([0.6, 0.4], (50, 1)), np.repeat([0, 1], [36, 14])
    found = measure_calibration(predicted, labels)
    assert found.error == pytest.approx(0.12) and found.mean_confidence == pytest.approx(0.6)
    rng = np.random.default_rng(1)

    def quantiles(share: float, *levels: float) -> np.ndarray:
        return np.quantile(np.abs(rng.binomial(50, share, 10**5) / 50 - 0.6), levels)

    assert found.by_chance == pytest.approx(quantiles(0.6, 0.95)[0], abs=0.021)
    assert (found.low, found.high) == pytest.approx(quantiles(0.72, 0.025, 0.975), abs=0.021)


def test_the_memory_does_not_grow_with_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(2.0, n=2000)
    predicted = probabilities(scores, 1.0)
    tracemalloc.start()
    found = measure_calibration(predicted, labels, seed=3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30 * 2**20
    # at once, and draw by draw
    for count in (2**23, 1):
        monkeypatch.setattr(calibration, "_AT_ONCE", count)
        assert measure_calibration(predicted, labels, seed=3) == found
