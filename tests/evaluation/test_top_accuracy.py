"""Top-1 and top-5 of any number of classes."""

from __future__ import annotations

import pytest
import torch
from mmpretrain.evaluation import Accuracy

from msn_mm.registry import METRICS


def measured(kind: type | None, classes: int, topk: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    generator = torch.Generator().manual_seed(classes)
    metric = METRICS.build(dict(type=kind or "TopAccuracy", topk=topk))
    samples = [
        {"pred_score": score, "gt_label": torch.tensor([number % classes])}
        for number, score in enumerate(torch.rand(60, classes, generator=generator))
    ]
    metric.process(None, samples)
    return metric.evaluate(60)


@pytest.mark.parametrize("classes", [2, 4, 5, 6, 10])
def test_it_is_mmpretrain_s_without_what_is_always_right(classes: int) -> None:
    found = measured(None, classes)
    assert found == measured(Accuracy, classes, (1, 5) if classes > 5 else (1,))
    assert 0 < found["accuracy/top1"] < 100


def test_one_answer_is_always_measured_and_every_k_remembered() -> None:
    assert list(measured(None, 2, (5,))) == ["accuracy/top1"]
    metric = METRICS.build(dict(type="TopAccuracy", topk=(1, 3, 5)))
    for classes, tops in ((2, 1), (4, 2), (6, 3)):
        score = {"pred_score": torch.rand(classes), "gt_label": torch.tensor([0])}
        metric.process(None, [score])
        assert len(metric.evaluate(1)) == tops
