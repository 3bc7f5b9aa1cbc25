"""From features and labels to a calibrated classifier, by the labelled images alone.

Legend: n images, D width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from msn_mm.evaluation.cross_validation import choose_lambda, out_of_fold
from msn_mm.evaluation.logistic_regression import LinearClassifier, fit_logistic_regression
from msn_mm.few_labels.calibration import fit_temperature, probabilities
from msn_mm.utils.protocol_options import CROSS_VALIDATION

Lambda = float | Literal["cv"]


@dataclass(frozen=True)
class Learnt:
    """A classifier and the temperature that makes its scores probabilities.

    Attributes:
        classifier: Columns are the classes 0 to K - 1.
        temperature: 1 where nothing could be held out to find another.
        is_calibrated: Whether the temperature was found on held-out images.
        lambd: Regularisation.
        lambd_from: ``given``, ``cross-validation``, or ``released`` where nothing
            could be held out to choose by.
    """

    classifier: LinearClassifier
    temperature: float
    is_calibrated: bool
    lambd: float
    lambd_from: str

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(m, K)`` probabilities of ``(m, D)`` features."""
        return probabilities(self.classifier.decision_function(features), self.temperature)


def learn(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    lambd: Lambda = CROSS_VALIDATION,
    seed: int = 0,
) -> Learnt:
    """Fit a classifier, its regularisation and its temperature.

    The regularisation is chosen by cross-validation
    (:func:`~msn_mm.evaluation.cross_validation.choose_lambda`). With it every
    image is held out once more, and the temperature is the best for those
    scores; then the classifier learns from all images.

    Args:
        features: ``(n, D)`` float64, normalised.
        labels: ``(n,)`` with all of 0 to K - 1.
        lambd: Regularisation, or ``"cv"``.
        seed: Seed of the folds.

    Raises:
        UserError: Fewer than two classes.
    """
    source = "given"
    if lambd == CROSS_VALIDATION:
        choice = choose_lambda(features, labels, seed=seed)
        lambd = choice.lambd
        source = "cross-validation" if choice.cross_validated else "released"
    value = float(lambd)

    def scores(known: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        fold = fit_logistic_regression(features[known], labels[known], value)
        return fold.decision_function(features[asked])

    held_out = out_of_fold(labels, scores, seed)
    return Learnt(
        fit_logistic_regression(features, labels, value),
        temperature=1.0 if held_out is None else fit_temperature(held_out, labels),
        is_calibrated=held_out is not None,
        lambd=value,
        lambd_from=source,
    )
