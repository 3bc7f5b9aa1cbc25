"""Accuracy among the best answers, whatever the number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from msn_mm.registry import METRICS


@METRICS.register_module()
class TopAccuracy(BaseMetric):
    """mmpretrain's ``Accuracy``, without those of its ``topk`` that no image can miss.

    Among five answers of five classes or fewer each is right; mmpretrain's metric ends the
    run there where there are fewer. A config may so ask for ``topk=(1, 5)`` whatever its
    classes. The first answer's accuracy is always measured.

    Args:
        topk: Among how many of the best answers the right one is to be.
        collect_device: As in MMEngine.
        prefix: Of the metrics' names; ``accuracy`` if not given.
    """

    default_prefix = "accuracy"

    def __init__(
        self,
        topk: int | Sequence[int] = (1,),
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        # Here, because it takes a while and not every training measures by it.
        from mmpretrain.evaluation import Accuracy

        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        self._build: Any = Accuracy

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep scores and labels of one batch."""
        metric = self._build()
        metric.process(data_batch, data_samples)
        self.results += metric.results

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Measure on results that are all here."""
        topk = self.topk
        if "pred_score" in results[0]:
            classes = len(results[0]["pred_score"])
            topk = tuple(k for k in topk if k < classes) or (1,)
        return dict(self._build(topk).compute_metrics(results))
