"""msn_mm: Masked Siamese Networks and their relatives on MMEngine."""

import warnings

# mmcv-lite announces at import that compiled operators are missing. The
# project uses none of them, so the sentence only alarms the reader.
warnings.filterwarnings("ignore", message=".*Fail to import ``MultiScaleDeformableAttention``.*")

__version__ = "0.1.0"
