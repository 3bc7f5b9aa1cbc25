"""The linear metric on hits made by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from msn_mm.evaluation.linear_metric import LinearMetric, measure_heads
from msn_mm.evaluation.linear_report import heads_table, summary
from tests.two_processes import start_two

TIMEOUT = timedelta(seconds=20)
HEADS = ("cls1 lr x1 (paper)", "cls1 ln lr x1 (released)", "cls4 lr x3")
# Four images to be asked about, two to choose a head by.
FIRST = [[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]]
SUPPORT = [False] * 4 + [True] * 2


def feed(metric: LinearMetric, rows: list[int], support: bool = True) -> None:
    samples: list[dict[str, Any]] = [
        {
            "hits": torch.tensor([[bool(x), True] for x in FIRST[row]]),
            "support": support and SUPPORT[row],
            "heads": HEADS,
        }
        for row in rows
    ]
    metric.process({"data_samples": {"index": torch.tensor(rows)}}, samples)


def test_the_best_head_is_chosen_on_images_held_out_of_training() -> None:
    metric = LinearMetric()
    feed(metric, [4, 0, 2])
    feed(metric, [1, 3, 5, 5, 0])  # a sampler pads
    flat = metric.evaluate(6)
    assert flat["linear/paper_top1"] == 50 and flat["linear/released_top1"] == 50
    # The third is right on 75 %, but the second is right on both held-out images.
    assert flat["linear/best_top1"] == 50 and flat["linear/best_held_out_top1"] == 100
    assert metric.last["best"] == HEADS[1]
    assert metric.last["chosen_on"] == "held-out training images"
    assert metric.last["images"] == {"evaluation": 4, "held_out": 2}
    assert metric.last["heads"][HEADS[2]] == {"top1": 75, "top5": 100, "held_out_top1": 0}


def test_without_them_on_the_images_it_is_reported_for() -> None:
    metric = LinearMetric()
    feed(metric, [0, 1, 2, 3], support=False)
    flat = metric.evaluate(4)
    assert flat["linear/best_top1"] == 75 and metric.last["best"] == HEADS[2]
    assert metric.last["chosen_on"] == "the evaluation images"
    assert "held_out_top1" not in metric.last["heads"][HEADS[0]]
    rates = dict.fromkeys(HEADS, 6.4)
    assert "flattered" in heads_table(metric.last, rates)
    found = summary(metric.last)
    assert found["paper"]["top1"] == 50 and found["best"]["head"] == HEADS[2]
    assert found["released"]["head"] == HEADS[1] and set(found["heads"]) == set(HEADS)


def test_equal_heads_and_few_classes() -> None:
    right = np.ones((3, 3, 1), dtype=bool)
    found = measure_heads(HEADS, right, np.zeros(3, dtype=bool))
    assert found["best"] == HEADS[0] and found["heads"][HEADS[1]] == {"top1": 100}


def test_images_that_never_arrived() -> None:
    metric = LinearMetric()
    feed(metric, [0, 1])
    with pytest.raises(RuntimeError, match="2 different images of 6"):
        metric.evaluate(6)


def _failing(rank: int, port: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=TIMEOUT
    )
    metric = LinearMetric()
    feed(metric, [rank, rank + 2])
    # the two know other heads, which only the first process finds out
    metric.results[0]["hits"] = metric.results[0]["hits"][:, : 3 - rank]
    with pytest.raises((ValueError, RuntimeError)) as caught:
        metric.evaluate(4)
    Path(folder, f"{rank}.txt").write_text(f"{caught.type.__name__}: {caught.value}")
    dist.destroy_process_group()


def test_a_failure_on_the_first_process_leaves_no_other_waiting(tmp_path: Path) -> None:
    start_two(_failing, str(tmp_path))
    first, other = ((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert first.startswith("ValueError: all the input array dimensions")
    assert other.startswith("RuntimeError: the first process failed: all the input array")
