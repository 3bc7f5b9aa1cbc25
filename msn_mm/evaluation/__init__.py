"""Downstream protocols on frozen features."""

from msn_mm.evaluation.cross_validation import choose_lambda
from msn_mm.evaluation.encoder import FrozenEncoder, ReadOut, build_encoder, encoder_of
from msn_mm.evaluation.extraction import Mask, extract
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.features import Features, center_and_normalize
from msn_mm.evaluation.knn import weighted_knn, weighted_knn_accuracy
from msn_mm.evaluation.logistic_regression import LinearClassifier, fit_logistic_regression
from msn_mm.evaluation.lowshot import evaluate_splits, low_shot_accuracy
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.evaluation.split_files import save_splits, splits_from_files
from msn_mm.evaluation.splits import compact, draw_splits, fraction_split, low_shot_split

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
    "choose_lambda",
    "compact",
    "draw_splits",
    "encoder_of",
    "evaluate_splits",
    "extract",
    "fit_logistic_regression",
    "fraction_split",
    "low_shot_accuracy",
    "low_shot_split",
    "save_splits",
    "splits_from_files",
    "weighted_knn",
    "weighted_knn_accuracy",
]
