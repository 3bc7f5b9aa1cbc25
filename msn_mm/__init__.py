"""msn_mm: Masked Siamese Networks and their relatives on MMEngine."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msn_mm.apis import evaluate_lowshot, extract_features
    from msn_mm.convert.apis import load_backbone
    from msn_mm.convert.classifier import load_classifier
    from msn_mm.few_labels.predictor import load_predictor

# mmcv-lite announces at import that compiled operators are missing. The
# project uses none of them, so the sentence only alarms the reader.
warnings.filterwarnings("ignore", message=".*Fail to import ``MultiScaleDeformableAttention``.*")

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "evaluate_lowshot",
    "extract_features",
    "load_backbone",
    "load_classifier",
    "load_predictor",
]

_HOMES = {
    "evaluate_lowshot": "msn_mm.apis",
    "extract_features": "msn_mm.apis",
    "load_backbone": "msn_mm.convert.apis",
    "load_classifier": "msn_mm.convert.classifier",
    "load_predictor": "msn_mm.few_labels.predictor",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: a tool that only wants to say --help needs no torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'msn_mm' has no attribute '{name}'")
