from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msn_mm.errors import UserError
from msn_mm.evaluation import LowShotMetric
from msn_mm.evaluation.baselines import (
    accuracy_table,
    compare_with_baselines,
    raw_pixels,
    verdict,
)

from .stand_ins import ToyEncoder, ToyLabelled


def _measured(*means: float, knn: float = 90.0) -> dict[str, Any]:
    shots = {
        n: {"top1_mean": mean, "top1_std": 1.25, "top1": [mean]}
        for n, mean in zip(("1", "2", "5"), means, strict=True)
    }
    return {**shots, "knn": {"top1": knn, "k": 10}}


def test_raw_pixels_are_the_flattened_images() -> None:
    data = ToyLabelled()
    result = raw_pixels(DataLoader(data, batch_size=8))
    np.testing.assert_array_equal(result.features, data.images.flatten(1).numpy())
    np.testing.assert_array_equal(result.labels, data.labels.numpy())
    np.testing.assert_array_equal(result.support, data.support.numpy())
    with pytest.raises(UserError, match="no images"):
        raw_pixels([])


def test_the_three_measurements_and_a_random_state_without_trace() -> None:
    model, data = ToyEncoder(), ToyLabelled()
    metric = LowShotMetric(images_per_class=(1,), splits=2, knn_k=3)
    states, seen = [], []

    def train(baselines: dict[str, Any]) -> None:
        states.append(torch.get_rng_state())
        seen.append(baselines)
        with torch.no_grad():  # features that tell nothing apart
            model.linear.weight.zero_()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    measured = compare_with_baselines(model, DataLoader(data, batch_size=8), metric, train)
    assert torch.equal(states[0], before)
    assert list(measured) == ["raw_pixels", "untrained", "trained"]
    assert seen == [{"raw_pixels": measured["raw_pixels"], "untrained": measured["untrained"]}]
    assert measured["untrained"]["knn"]["top1"] > 60
    assert measured["trained"]["knn"]["top1"] == pytest.approx(100 / 3)


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
