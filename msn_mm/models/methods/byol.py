"""BYOL: predict the moving average's projection of the other view (arXiv 2006.07733)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from msn_mm.models.methods.momentum_prediction import MomentumPrediction
from msn_mm.registry import MODELS


@MODELS.register_module()
class BYOL(MomentumPrediction):
    """Predict, from one view, what a moving average of the network makes of the other.

    Arguments as of :class:`~msn_mm.models.methods.momentum_prediction.MomentumPrediction`;
    predictor and loss come from mmpretrain's ``LatentPredictHead``.
    """

    def compare(
        self, predictions: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Compute the loss of predictions and targets, ``(B, P)`` of each view."""
        terms = map(self.head.loss_module, predictions, targets)
        return {"loss_byol": sum(terms, start=predictions[0].new_zeros(()))}
