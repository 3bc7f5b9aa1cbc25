"""Accuracy of the heads of a linear probe as an MMEngine metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dist import gather_object
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from msn_mm.engine.distributed import decided_by_first
from msn_mm.registry import METRICS

PAPER, RELEASED = "(paper)", "(released)"


@METRICS.register_module()
class LinearMetric(BaseMetric):
    """Top-1 and top-5 of every head, of the paper's, and of the best one.

    With labelled images that were held out of training (``support`` images of
    the data set) the best head is the best on those, and its accuracy
    on the other images is an honest one. Without them it is the best on the
    images it is reported for, which flatters it.

    Every image counts once, whatever the number of processes. Flat names, in
    percent: ``linear/paper_top1``, ``linear/released_top1``, ``linear/best_top1``; with
    more than five classes also ``top5``. :attr:`last` keeps every head's.

    Args:
        collect_device: Kept for MMEngine's interface; hits travel through the
            process group.
    """

    def __init__(self, collect_device: str = "cpu") -> None:
        # BaseMetric warns about a missing prefix; names here carry their own
        super().__init__(collect_device=collect_device, prefix="-")
        self.prefix = None
        self.last: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep which heads were right on one batch."""
        self.results.append(
            {
                "index": np.asarray(data_batch["data_samples"]["index"], dtype=np.int64),
                "hits": np.stack([np.asarray(sample["hits"]) for sample in data_samples]),
                "support": np.array([sample["support"] for sample in data_samples]),
                "heads": list(data_samples[0]["heads"]),
            }
        )

    def evaluate(self, size: int) -> dict[str, float]:
        """Measure over the images of all processes; the same values on each.

        Args:
            size: Number of images in the data set.

        Raises:
            RuntimeError: Some images of the data set never arrived.
        """
        shares = gather_object(list(self.results), dst=0)
        self.results.clear()

        def measure() -> dict[str, Any]:
            assert shares is not None
            return _joined([batch for share in shares for batch in share], size)

        # every process raises where the measuring one does; none is left waiting
        self.last = decided_by_first(measure)
        return flat_metrics(self.last)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Measure on results that are all here."""
        hits = np.concatenate([result["hits"] for result in results])
        support = np.concatenate([result["support"] for result in results])
        self.last = measure_heads(results[0]["heads"], hits, support)
        return flat_metrics(self.last)


def _joined(batches: list[dict[str, Any]], size: int) -> dict[str, Any]:
    index = np.concatenate([batch["index"] for batch in batches]) if batches else np.empty(0)
    unique, first = np.unique(index, return_index=True)
    if len(unique) != size:
        raise RuntimeError(f"{len(unique)} different images of {size} arrived")
    hits = np.concatenate([batch["hits"] for batch in batches])[first]
    support = np.concatenate([batch["support"] for batch in batches])[first]
    return measure_heads(batches[0]["heads"], hits, support)


def measure_heads(
    heads: Sequence[str], hits: NDArray[np.bool_], support: NDArray[np.bool_]
) -> dict[str, Any]:
    """Count.

    Args:
        heads: ``H`` names.
        hits: ``(n, H, 1 or 2)``: right at first, and among five.
        support: ``(n,)``: images to choose the head by, not to measure on.

    Returns:
        ``heads``: by name ``top1`` (``top5``, and ``held_out_top1`` with images
        to choose by) in percent; ``best``: a name; ``chosen_on``: ``held-out training
        images`` or ``the evaluation images``; ``images``: counts.
    """
    names = ("top1", "top5")[: hits.shape[2]]
    found: dict[str, dict[str, float]] = {}
    asked, chosen_by = hits[~support], hits[support]
    for h, head in enumerate(heads):
        found[head] = {top: 100 * float(asked[:, h, k].mean()) for k, top in enumerate(names)}
        if len(chosen_by):
            found[head]["held_out_top1"] = 100 * float(chosen_by[:, h, 0].mean())
    key = "held_out_top1" if len(chosen_by) else "top1"
    return {
        "heads": found,
        "best": max(heads, key=lambda head: found[head][key]),
        "chosen_on": "held-out training images" if len(chosen_by) else "the evaluation images",
        "images": {"evaluation": len(asked), "held_out": len(chosen_by)},
    }


def flat_metrics(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the few values that belong into a log."""
    heads = measured["heads"]
    roles: dict[str, str] = {}
    for role, mark in (("paper", PAPER), ("released", RELEASED)):
        found = [head for head in heads if head.endswith(mark)]
        if found:
            roles[role] = found[0]
    roles["best"] = measured["best"]
    return {
        f"linear/{role}_{top}": value
        for role, head in roles.items()
        for top, value in heads[head].items()
    }
