"""Probabilities that mean what they say: a temperature, and how far they are off.

Legend: n images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 10
"""Bins of equal width, between 0 and 1, of the expected calibration error."""

_DRAWS = 2000
# Images, over all draws, whose memory is held at a time: about 10 MiB.
_AT_ONCE = 2**18
# exp of these bounds the temperature; with smoothed targets the minimum lies inside
_LOG_BOUNDS = (-12.0, 12.0)


def fit_temperature(scores: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """Return the temperature by which held-out scores become probabilities.

    It minimises the cross-entropy of ``softmax(scores / T)`` (Guo et al. 2017,
    arXiv 1706.04599, section 4.2), a convex problem in 1/T. Of few images all
    may be right, and then the minimum is at T = 0, certainty. So the true class
    of an image counts ``(n + 1) / (n + 2)`` instead of 1, by Laplace's rule of
    succession, as Platt (1999, "Probabilistic outputs for support vector
    machines") does for two classes; the others share the rest.

    Args:
        scores: ``(n, K)`` of images that the classifier had not learnt from, K >= 2.
        labels: ``(n,)`` columns of the true classes.

    Raises:
        ValueError: Shapes do not fit, or there is no image.
    """
    n, classes = scores.shape
    if n == 0 or labels.shape != (n,) or classes < 2:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not fit")
    targets = np.full(scores.shape, 1 / (n + 2) / (classes - 1))
    targets[np.arange(n), labels] = (n + 1) / (n + 2)

    def cross_entropy(log_temperature: float) -> float:
        return -float((targets * log_softmax(scores / np.exp(log_temperature), axis=1)).sum())

    found = minimize_scalar(
        cross_entropy, bounds=_LOG_BOUNDS, method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(found.x))


def probabilities(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the ``(n, K)`` probabilities of scores at a temperature."""
    return softmax(scores / temperature, axis=1)


def expected_calibration_error(confidence: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the mean distance, over bins, of how sure and how right the predictions are.

    Args:
        confidence: ``(n,)`` probability of each predicted class.
        right: ``(n,)`` whether it was the true one.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 5, with :data:`BINS` bins.
    """
    return float(_errors(confidence[None], right[None])[0])


@dataclass(frozen=True)
class Calibration:
    """How well probabilities of n images agree with what came true; shares, not percent.

    Attributes:
        error: Expected calibration error.
        low: Lower end of its 95 % interval, by the bootstrap over images.
        high: Upper end.
        by_chance: What perfectly calibrated probabilities stay below in 95 % of
            samples of so many images: an error is never 0, and the fewer images
            the larger.
        mean_confidence: Mean probability of the predicted classes.
        log_loss: Mean cross-entropy, in nats.
    """

    error: float
    low: float
    high: float
    by_chance: float
    mean_confidence: float
    log_loss: float

    @property
    def is_off(self) -> bool:
        """Whether the error is more than chance explains."""
        return self.error > self.by_chance


def measure_calibration(
    predicted: NDArray[np.float64], labels: NDArray[Any], seed: int = 0
) -> Calibration:
    """Compare probabilities with what came true.

    Args:
        predicted: ``(n, K)`` probabilities of images that nothing was learnt from.
        labels: ``(n,)`` columns of the true classes.
        seed: Seed of the bootstrap and of the samples of :attr:`Calibration.by_chance`.
    """
    n = len(labels)
    confidence = predicted.max(axis=1)
    right = predicted.argmax(axis=1) == labels
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, n])))

    def resampled(draws: int) -> NDArray[np.float64]:
        again = generator.integers(0, n, (draws, n))
        return _errors(confidence[again], right[again])

    def lucky(draws: int) -> NDArray[np.float64]:
        came_true = generator.random((draws, n)) < confidence
        return _errors(np.broadcast_to(confidence, came_true.shape), came_true)

    # So many draws at once; the numbers do not depend on it.
    some = max(1, _AT_ONCE // n)
    parts = [min(some, _DRAWS - start) for start in range(0, _DRAWS, some)]
    low, high = np.quantile(np.concatenate([*map(resampled, parts)]), (0.025, 0.975))
    calibrated = np.concatenate([*map(lucky, parts)])
    own = predicted[np.arange(n), labels]
    return Calibration(
        error=expected_calibration_error(confidence, right),
        low=float(low),
        high=float(high),
        by_chance=float(np.quantile(calibrated, 0.95)),
        mean_confidence=float(confidence.mean()),
        log_loss=float(-np.log(np.maximum(own, np.finfo(float).tiny)).mean()),
    )


def _errors(confidence: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """Return the expected calibration error of each row of ``(draws, n)``."""
    number = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = right - confidence
    total = np.zeros(len(confidence))
    for one in range(BINS):
        total += np.abs(np.where(number == one, gap, 0.0).sum(axis=1))
    return total / confidence.shape[1]
