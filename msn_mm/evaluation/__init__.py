"""Downstream protocols on frozen features.

The names below are imported when they are first asked for: a command line that
only prints its help takes its options from this package, without the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msn_mm.evaluation.cross_validation import choose_lambda
    from msn_mm.evaluation.data import LabelledData, labelled_data
    from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder, encoder_of
    from msn_mm.evaluation.extraction import Mask, extract
    from msn_mm.evaluation.feature_cache import FeatureCache
    from msn_mm.evaluation.features import Features, center_and_normalize
    from msn_mm.evaluation.knn import weighted_knn, weighted_knn_accuracy
    from msn_mm.evaluation.logistic_regression import LinearClassifier, fit_logistic_regression
    from msn_mm.evaluation.lowshot import evaluate_splits, low_shot_accuracy
    from msn_mm.evaluation.lowshot_metric import LowShotMetric
    from msn_mm.evaluation.named_data import transfer_data
    from msn_mm.evaluation.split_files import save_splits, splits_from_files
    from msn_mm.evaluation.splits import compact, draw_splits, fraction_split, low_shot_split

__all__ = [
    "FeatureCache",
    "Features",
    "FrozenEncoder",
    "LabelledData",
    "LinearClassifier",
    "LowShotMetric",
    "Mask",
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
    "labelled_data",
    "low_shot_accuracy",
    "low_shot_split",
    "save_splits",
    "splits_from_files",
    "transfer_data",
    "weighted_knn",
    "weighted_knn_accuracy",
]

_HOMES = {
    "cross_validation": ("choose_lambda",),
    "data": (
        "LabelledData",
        "labelled_data",
    ),
    "encoder": (
        "FrozenEncoder",
        "build_encoder",
        "encoder_of",
    ),
    "extraction": (
        "Mask",
        "extract",
    ),
    "feature_cache": ("FeatureCache",),
    "features": (
        "Features",
        "center_and_normalize",
    ),
    "knn": (
        "weighted_knn",
        "weighted_knn_accuracy",
    ),
    "logistic_regression": (
        "LinearClassifier",
        "fit_logistic_regression",
    ),
    "lowshot": (
        "evaluate_splits",
        "low_shot_accuracy",
    ),
    "lowshot_metric": ("LowShotMetric",),
    "named_data": ("transfer_data",),
    "split_files": (
        "save_splits",
        "splits_from_files",
    ),
    "splits": (
        "compact",
        "draw_splits",
        "fraction_split",
        "low_shot_split",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
