"""Downstream protocols on frozen features.

What makes the features is imported by its module: :mod:`msn_mm.evaluation.encoder` and
:mod:`msn_mm.evaluation.extraction` bring all networks with them.
"""

from msn_mm.evaluation.features import Features, center_and_normalize
from msn_mm.evaluation.knn import weighted_knn_accuracy
from msn_mm.evaluation.lowshot import (
    LinearClassifier,
    fit_logistic_regression,
    low_shot_accuracy,
)
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.evaluation.splits import low_shot_split

__all__ = [
    "Features",
    "LinearClassifier",
    "LowShotMetric",
    "center_and_normalize",
    "fit_logistic_regression",
    "low_shot_accuracy",
    "low_shot_split",
    "weighted_knn_accuracy",
]
