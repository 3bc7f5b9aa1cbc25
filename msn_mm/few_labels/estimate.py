"""What a classifier is worth, estimated within the labelled images, and how sure that is.

Legend: n images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from msn_mm.evaluation.cross_validation import MAX_FOLDS, folds_of, out_of_fold
from msn_mm.few_labels.calibration import Calibration, measure_calibration
from msn_mm.few_labels.learning import Lambda, Learnt, learn
from msn_mm.utils.protocol_options import CROSS_VALIDATION

CONFIDENCE = 0.95
"""Share of all such intervals that hold the true accuracy."""

TOO_WIDE = 0.3
"""An interval that leaves the accuracy this open, as a share, tells too little."""


@dataclass(frozen=True)
class Proportion:
    """How many of some images were right.

    Attributes:
        right: Right answers.
        total: Images asked.
    """

    right: int
    total: int

    @property
    def share(self) -> float:
        """Right answers of all."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the exact interval of Clopper and Pearson (1934), level :data:`CONFIDENCE`."""
        found = binomtest(self.right, self.total).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    @property
    def is_vague(self) -> bool:
        """Whether the interval is wider than :data:`TOO_WIDE`."""
        low, high = self.interval
        return high - low > TOO_WIDE

    def to_json(self) -> dict[str, Any]:
        """Return counts, and accuracy and interval in percent."""
        low, high = self.interval
        return {
            "right": self.right,
            "images": self.total,
            "accuracy": 100 * self.share,
            "low": 100 * low,
            "high": 100 * high,
        }


@dataclass(frozen=True)
class Estimate:
    """Accuracy and calibration on images that were held out, each once.

    Attributes:
        overall: Of all images.
        by_class: Of the images of each class.
        most_frequent: Share of the class with most images, what always answering
            it would reach.
        folds: How many times a part was held out.
        lambdas: Regularisation that each fold chose, by its own images alone.
        lambdas_from: How, see :class:`~msn_mm.few_labels.learning.Learnt`.
        calibration: Of the probabilities; ``None`` where the folds are too small to
            find a temperature of their own.
    """

    overall: Proportion
    by_class: tuple[Proportion, ...]
    most_frequent: float
    folds: int
    lambdas: tuple[float, ...]
    lambdas_from: str
    calibration: Calibration | None

    @property
    def beats_guessing(self) -> bool:
        """Whether the interval lies above what always answering one class would reach."""
        return self.overall.interval[0] > self.most_frequent

    @property
    def is_low(self) -> bool:
        """Whether so much is held out each time that the whole classifier does clearly better.

        Then the interval's lower end holds and its upper end does not: measured on
        digits, the interval misses the truth in one of five cases at two labels a class.
        """
        return self.folds < MAX_FOLDS

    def to_json(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Return everything as plain values, accuracies in percent."""
        return {
            "overall": self.overall.to_json(),
            "by_class": {
                name: one.to_json() for name, one in zip(classes, self.by_class, strict=True)
            },
            "most_frequent": 100 * self.most_frequent,
            "interval": f"Clopper-Pearson, {CONFIDENCE:.0%}",
            "folds": self.folds,
            "is_low": self.is_low,
            "lambdas": list(self.lambdas),
            "lambdas_from": self.lambdas_from,
            "calibration": None if self.calibration is None else asdict(self.calibration),
        }


def estimate(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    lambd: Lambda = CROSS_VALIDATION,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Estimate | None:
    """Cross-validate :func:`~msn_mm.few_labels.learning.learn` as a whole.

    Regularisation and temperature are chosen anew by the images of each fold
    that are learnt from, so no image has a say in anything that it is asked by.
    Every answer counts once, which is what the interval takes for granted; the
    folds share most of the images they learn from, which it does not know
    (Bengio & Grandvalet 2004, JMLR 5). What is measured learns from
    (folds - 1) / folds of the labels, so the estimate is rather low than high.

    Args:
        features: ``(n, D)`` float64, normalised.
        labels: ``(n,)`` with all of 0 to K - 1.
        lambd: Regularisation, or ``"cv"``.
        seed: Seed of the folds.
        progress: Called with the number of finished folds and of all.

    Returns:
        ``None`` when a class has one image only: then nothing can be held out.
    """
    folds = folds_of(labels)
    learnt: list[Learnt] = []

    def predict(known: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        learnt.append(learn(features[known], labels[known], lambd, seed))
        if progress is not None:
            progress(len(learnt), folds)
        return learnt[-1].probabilities(features[asked])

    predicted = out_of_fold(labels, predict, seed)
    if predicted is None:
        return None
    right = predicted.argmax(axis=1) == labels
    counts = np.bincount(labels)
    hits = np.bincount(labels[right], minlength=len(counts))
    is_calibrated = all(one.is_calibrated for one in learnt)
    return Estimate(
        overall=Proportion(int(right.sum()), len(labels)),
        by_class=tuple(Proportion(int(h), int(n)) for h, n in zip(hits, counts, strict=True)),
        most_frequent=float(counts.max() / len(labels)),
        folds=folds,
        lambdas=tuple(one.lambd for one in learnt),
        lambdas_from=learnt[0].lambd_from,
        calibration=measure_calibration(predicted, labels, seed) if is_calibrated else None,
    )


def labels_needed(share: float, half_width: float) -> int:
    """Return about how many labels of a class narrow its interval to ``share +- half_width``.

    By the normal approximation, for planning.
    """
    variance = max(share * (1 - share), 0.05)
    return int(np.ceil(variance * (1.96 / half_width) ** 2))
