"""Accuracy that a few labelled images can tell of themselves, as a metric of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.evaluation.cross_validation import out_of_fold
from msn_mm.evaluation.features import Features, center_and_normalize
from msn_mm.evaluation.logistic_regression import RELEASED_LAMBD, fit_logistic_regression
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.registry import METRICS


@METRICS.register_module()
class FewLabelsMetric(LowShotMetric):
    """Logistic regression on frozen features, each labelled image held out in turn.

    ``few_labels/top1`` is the share of images, in percent, that a classifier of the other
    folds names rightly, averaged over ``repeats`` divisions into folds; see
    :func:`~msn_mm.evaluation.cross_validation.out_of_fold`. ``few_labels/error`` is the standard
    error of that mean over the images. Both are left out when a class has one image.

    Args:
        repeats: Divisions into folds.
        lambd: Regularisation of the logistic regression.
        seed: Seed of the first division.
        collect_device: As :class:`LowShotMetric`.

    Attributes:
        right: Of the last measurement, on the first process: for each image the share of
            divisions in which it was named rightly.

    Raises:
        ValueError: ``repeats`` is below 1.
    """

    def __init__(
        self,
        repeats: int = 3,
        lambd: float = RELEASED_LAMBD,
        seed: int = 0,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(
            images_per_class=(),
            splits=repeats,
            knn_k=1,
            lambd=lambd,
            seed=seed,
            collect_device=collect_device,
        )
        self.right: list[float] = []

    def settings(self) -> dict[str, Any]:
        """Return what the values depend on, for ``results.json``."""
        return {"repeats": self.splits, "lambd": self.lambd, "fold_seed": self.seed}

    def measure(
        self, features: Features, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Measure given features; the flat metrics."""
        rows, labels = center_and_normalize(features.features), features.labels

        def scores(known: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
            fold = fit_logistic_regression(rows[known], labels[known], self.lambd)
            return fold.decision_function(rows[asked])

        found = [out_of_fold(labels, scores, self.seed + k) for k in range(self.splits)]
        held_out = [one.argmax(axis=1) == labels for one in found if one is not None]
        if not held_out:
            return {}
        right = np.mean(held_out, axis=0)
        self.right = right.tolist()
        error = float(right.std(ddof=1)) / len(right) ** 0.5
        return {"few_labels/top1": 100 * float(right.mean()), "few_labels/error": 100 * error}
