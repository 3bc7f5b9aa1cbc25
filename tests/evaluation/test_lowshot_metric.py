from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from msn_mm.errors import UserError
from msn_mm.evaluation import Features, LowShotMetric, low_shot_accuracy, weighted_knn_accuracy
from msn_mm.registry import METRICS
from tests.helpers import leaving_group

from .stand_ins import ToyEncoder, ToyLabelled

SETTINGS: dict[str, Any] = {"images_per_class": (1, 2), "splits": 3, "knn_k": 4}


def _run(metric: LowShotMetric, loader: DataLoader, size: int) -> dict[str, float]:
    """What MMEngine's validation loop does."""
    model = ToyEncoder().eval()
    metric.dataset_meta = ToyLabelled.METAINFO
    with torch.no_grad():
        for batch in loader:
            metric.process(batch, model.val_step(batch))
    return metric.evaluate(size)


def test_flat_names_and_values_equal_the_functions() -> None:
    data = ToyLabelled()
    metric = LowShotMetric(**SETTINGS)
    result = _run(metric, DataLoader(data, batch_size=8), len(data))
    with torch.no_grad():
        rows = ToyEncoder().linear(data.images.flatten(1) / 255).numpy()
    arrays = Features(rows, data.labels.numpy(), data.support.numpy()).split()
    shots = low_shot_accuracy(*arrays, images_per_class=(1, 2), splits=3)
    expected = {
        "lowshot/1_top1": shots["1"]["top1_mean"],
        "lowshot/1_std": shots["1"]["top1_std"],
        "lowshot/2_top1": shots["2"]["top1_mean"],
        "lowshot/2_std": shots["2"]["top1_std"],
        "knn/top1": weighted_knn_accuracy(*arrays, k=4),
    }
    assert result == pytest.approx(expected)
    assert metric.last["1"]["top1"] == shots["1"]["top1"]
    assert 40 < result["knn/top1"] <= 100


def test_registered_and_a_second_evaluation_starts_afresh() -> None:
    init_default_scope("msn_mm")
    metric = METRICS.build({"type": "LowShotMetric", **SETTINGS})
    data = ToyLabelled()
    loader = DataLoader(data, batch_size=8)
    assert _run(metric, loader, len(data)) == _run(metric, loader, len(data))


def test_order_and_padding_do_not_matter() -> None:
    data = ToyLabelled()
    expected = _run(LowShotMetric(**SETTINGS), DataLoader(data, batch_size=8), len(data))
    order = [*np.random.default_rng(0).permutation(len(data)).tolist(), 3, 3, 17]
    shuffled = DataLoader(data, batch_size=8, sampler=order)
    assert _run(LowShotMetric(**SETTINGS), shuffled, len(data)) == pytest.approx(expected)


def test_missing_images_are_a_bug() -> None:
    data = ToyLabelled()
    with pytest.raises(RuntimeError, match="44 different images of 45"):
        _run(LowShotMetric(**SETTINGS), DataLoader(data, sampler=range(44)), len(data))
    with pytest.raises(RuntimeError, match="0 different images"):
        LowShotMetric(**SETTINGS).evaluate(45)


def test_either_protocol_alone() -> None:
    data = ToyLabelled()
    loader = DataLoader(data, batch_size=8)
    assert set(_run(LowShotMetric(images_per_class=()), loader, len(data))) == {"knn/top1"}
    only = _run(LowShotMetric(images_per_class=(2,), knn_k=None, splits=2), loader, len(data))
    assert set(only) == {"lowshot/2_top1", "lowshot/2_std"}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="needs images_per_class or knn_k"):
        LowShotMetric(images_per_class=(), knn_k=None)
    with pytest.raises(ValueError, match="splits"):
        LowShotMetric(splits=0)


def test_too_many_shots_names_the_class() -> None:
    data = ToyLabelled()
    with pytest.raises(UserError, match="class 'ant' has 10"):
        _run(LowShotMetric(images_per_class=(11,)), DataLoader(data), len(data))


@leaving_group()
def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    data = ToyLabelled(45)
    results: dict[str, Any] = {}
    for round_up in (True, False):  # 45 images: one padded, or 23 against 22
        sampler = DefaultSampler(data, shuffle=False, round_up=round_up)
        loader = DataLoader(data, batch_size=8, sampler=sampler)
        results[str(round_up)] = _run(LowShotMetric(**SETTINGS), loader, len(data))
    with pytest.raises(UserError):  # on both, so that none waits for ever
        _run(LowShotMetric(images_per_class=(11,)), loader, len(data))
    torch.save(results, Path(folder) / f"{rank}.pt")


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    data = ToyLabelled(45)
    expected = _run(LowShotMetric(**SETTINGS), DataLoader(data, batch_size=8), len(data))
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for result in results.values():
            assert result == pytest.approx(expected, abs=1e-9)
