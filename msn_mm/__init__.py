"""msn_mm: Masked Siamese Networks and their relatives on MMEngine."""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msn_mm.apis import evaluate_lowshot, extract_features
    from msn_mm.convert.apis import load_backbone

# mmcv-lite announces at import that compiled operators are missing. The
# project uses none of them, so the sentence only alarms the reader.
warnings.filterwarnings("ignore", message=".*Fail to import ``MultiScaleDeformableAttention``.*")

__version__ = "0.1.0"

__all__ = ["__version__", "evaluate_lowshot", "extract_features", "load_backbone"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a tool that only wants to say --help needs no torch.
    if name in ("evaluate_lowshot", "extract_features"):
        from msn_mm import apis

        return getattr(apis, name)
    if name == "load_backbone":
        from msn_mm.convert.apis import load_backbone

        return load_backbone
    raise AttributeError(f"module 'msn_mm' has no attribute '{name}'")
