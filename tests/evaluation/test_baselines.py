from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from msn_mm.datasets import Digits, EvalCrop, EvaluationImages
from msn_mm.evaluation import LowShotMetric, low_shot_accuracy
from msn_mm.evaluation.baselines import accuracy_table, compare_with_baselines, verdict
from msn_mm.evaluation.data import LabelledData
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor


def _measured(*means: float, knn: float = 90.0) -> dict[str, Any]:
    shots = {
        n: {"top1_mean": mean, "top1_std": 1.25, "top1": [mean]}
        for n, mean in zip(("1", "2", "5"), means, strict=True)
    }
    return {**shots, "knn": {"top1": knn, "k": 10}}


def _data() -> LabelledData:
    view = EvalCrop(resize=None, crop=None, channels=1)
    return LabelledData(
        EvaluationImages(Digits("pretrain", indices=40), view),
        EvaluationImages(Digits("test", indices=20), view),
        "digits",
    )


class Toy(BaseModel):
    """A model around one linear layer with dropout, which evaluation must not meet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(1024, 64), nn.Dropout(0.5))

    def forward(self, *_: Any) -> None: ...


def test_the_three_measurements_and_a_random_state_without_trace() -> None:
    model, data = Toy().train(), _data()
    model.data_preprocessor = MultiViewPreprocessor([78.0], [90.0])
    metric = LowShotMetric(images_per_class=(1,), splits=2, knn_k=3)
    states, seen = [], []

    def train(baselines: dict[str, Any]) -> None:
        states.append(torch.get_rng_state())
        assert model.training and model.backbone[2].training
        seen.append(baselines)
        with torch.no_grad():  # features that tell nothing apart
            model.backbone[1].weight.zero_()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    measured = compare_with_baselines(model, data, metric, train, batch_size=8)
    assert torch.equal(states[0], before)
    assert list(measured) == ["raw_pixels", "untrained", "trained"]
    assert seen == [{"raw_pixels": measured["raw_pixels"], "untrained": measured["untrained"]}]
    assert measured["untrained"]["knn"]["top1"] > 50
    assert measured["trained"]["knn"]["top1"] < 25

    # raw pixels: the same measurement on the scans themselves
    parts = (data.support, data.query)
    pixels = [np.stack([p[i].numpy().ravel() for i in range(len(p))]) for p in parts]
    labels = [part.labels for part in parts]
    expected = low_shot_accuracy(
        pixels[0], labels[0], pixels[1], labels[1], images_per_class=(1,), splits=2
    )
    for key in ("top1", "top5", "lambd", "images"):
        assert measured["raw_pixels"]["1"][key] == expected["1"][key]


def test_table_has_a_row_a_kind_and_a_column_a_count() -> None:
    lines = accuracy_table({"raw": _measured(64, 77, 84.04), "MSN": _measured(80, 88, 94)})
    header, _, raw, _ = lines.splitlines()
    assert header.split("  ")[1:] == [
        "1 label a class",
        "2 labels a class",
        "5 labels a class",
        "k-NN, all labels",
    ]
    assert " ".join(raw.split()) == "raw 64.0 ± 1.2 77.0 ± 1.2 84.0 ± 1.2 90.0"


def test_counts_are_ordered_as_numbers() -> None:
    value = {"top1_mean": 1.0, "top1_std": 0.0, "top1": [1.0]}
    header = accuracy_table({"x": {"10": value, "2": value}}).splitlines()[0]
    assert header.index("2 labels") < header.index("10 labels")


@pytest.mark.parametrize(
    ("means", "sentence"),
    [
        ((70, 80, 90), "MSN beats raw;"),
        ((70, 70, 90), "MSN beats raw in some columns only;"),
        ((60, 70, 80), "MSN does not beat raw;"),
    ],
)
def test_verdict_looks_at_every_low_shot_column(means: tuple[float, ...], sentence: str) -> None:
    text = verdict(_measured(*means, knn=0), _measured(64, 77, 84), ("MSN", "raw"))
    assert text.startswith(sentence)
    assert f"{means[0] - 64:+.1f} (1 a class)" in text and "-90.0 (k-NN)" in text
