"""Series that have settled, rise, are too noisy to tell, or creep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import linregress, t

from msn_mm.engine.settling import ScoreWatch, drift, has_settled


def saturating(n: int, scale: float, noise: float, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [5 - 2 * math.exp(-k / scale) + noise * rng.normal() for k in range(n)]


def first_settled(values: list[float], tolerance: float = 0.03) -> int | None:
    for n in range(1, len(values) + 1):
        if has_settled(values[:n], tolerance):
            return n
    return None


def test_the_drift_and_its_interval_are_those_of_a_regression() -> None:
    values = np.random.default_rng(0).normal(size=11).cumsum()
    found = linregress(np.arange(11), values)
    moved, half_width = drift(values)
    assert moved == pytest.approx(10 * found.slope)
    assert half_width == pytest.approx(10 * found.stderr * t.ppf(0.975, 9))


def test_a_settled_series_is_told_after_it_has_settled() -> None:
    when = first_settled(saturating(60, scale=4, noise=0.02))
    assert when is not None and 12 <= when <= 30
    # an eighth of what was left of the rise is still to come at the most
    assert 5 - saturating(60, scale=4, noise=0)[when - 1] < 2 * math.exp(-2)


def test_a_rising_series_goes_on() -> None:
    assert first_settled([1 + 0.05 * k for k in range(40)]) is None
    assert first_settled(saturating(40, scale=40, noise=0.01)) is None


def test_a_series_that_is_too_noisy_to_tell_goes_on() -> None:
    noisy = [5 + 1.5 * x for x in np.random.default_rng(1).normal(size=40)]
    assert first_settled(noisy) is None
    # the same level and less noise
    assert first_settled([5 + (x - 5) / 50 for x in noisy]) == 8


def answers(rng: np.random.Generator, n: int, accuracy: float) -> np.ndarray:
    return (rng.random(n) < accuracy).astype(float)


def test_accuracy_that_rises_is_not_settled_and_then_it_is() -> None:
    rng = np.random.default_rng(0)
    skill = rng.permutation(200) / 200  # what an image needs to be named rightly
    watch = ScoreWatch(patience=5)
    for k in range(12):
        assert not watch.add(skill < 0.3 + 0.05 * k)
    best = watch.best
    # from here on other images flip now and then, and none is gained
    for _ in range(5):
        flipped = np.where(rng.random(200) < 0.05, 1.0 - (skill < 0.85), skill < 0.85)
        settled = watch.add(flipped)
    assert settled and watch.since == 5 and watch.best == best == pytest.approx(85, abs=1)


def test_slow_progress_adds_up_against_the_best() -> None:
    watch = ScoreWatch(patience=4)
    right = np.zeros(100)
    # one image more at each measurement, which by itself is within the noise
    for k in range(60):
        right = right.copy()
        right[k] = 1.0
        assert not watch.add(right), k


def test_a_gain_within_the_noise_is_none() -> None:
    watch = ScoreWatch(patience=9)
    right = np.repeat([1.0, 0.0], 25)
    watch.add(right)
    # four images won and three lost
    other = right.copy()
    other[[0, 1, 2]], other[[30, 31, 32, 33]] = 0.0, 1.0
    watch.add(other)
    assert watch.since == 1 and watch.best == pytest.approx(50)
    other[:3] = 1.0  # none lost
    watch.add(other)
    assert watch.since == 0 and watch.best == pytest.approx(58)


def test_the_same_answers_are_no_gain_and_a_state_goes_on() -> None:
    watch = ScoreWatch(patience=3)
    right = answers(np.random.default_rng(0), 50, 0.6)
    assert not watch.add(right) and not watch.add(right)
    other = ScoreWatch(patience=3)
    other.load_state_dict(watch.state_dict())
    assert not other.add(right)
    assert other.add(right) and other.best == watch.best
