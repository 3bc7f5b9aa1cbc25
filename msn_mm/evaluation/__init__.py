"""Downstream protocols on frozen features."""

from msn_mm.evaluation.encoder import FrozenEncoder, ReadOut, build_encoder, encoder_of
from msn_mm.evaluation.extraction import Mask, extract
from msn_mm.evaluation.feature_cache import FeatureCache
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
    "FeatureCache",
    "Features",
    "FrozenEncoder",
    "LinearClassifier",
    "LowShotMetric",
    "Mask",
    "ReadOut",
    "build_encoder",
    "center_and_normalize",
    "encoder_of",
    "extract",
    "fit_logistic_regression",
    "low_shot_accuracy",
    "low_shot_split",
    "weighted_knn_accuracy",
]
