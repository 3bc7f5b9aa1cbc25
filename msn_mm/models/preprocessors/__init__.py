"""What happens to a batch before the model sees it."""

from msn_mm.models.preprocessors.mixing import MixingPreprocessor
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

__all__ = ["MixingPreprocessor", "MultiViewPreprocessor"]
