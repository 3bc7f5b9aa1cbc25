"""Downstream protocols on frozen features.

The names below are imported when they are first asked for: a command line that
only prints its help takes its options from this package, without the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "features": ("Features", "center_and_normalize"),
    "knn": ("weighted_knn_accuracy",),
    "lowshot": ("LinearClassifier", "fit_logistic_regression", "low_shot_accuracy"),
    "lowshot_metric": ("LowShotMetric",),
    "splits": ("low_shot_split",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
