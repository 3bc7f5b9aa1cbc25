"""The demo at its full length, and training on real photographs: minutes, so marked slow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from msn_mm.engine.launch import load_config
from tests.helpers import run, tiny_digits


@pytest.mark.slow
def test_msn_beats_raw_pixels_by_six_points(tmp_path):
    from tools.demo import main

    assert main(["--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    for shots in ("1", "2", "5"):
        raw, untrained, msn = (
            metrics[row][shots]["top1_mean"] for row in ("raw_pixels", "untrained", "trained")
        )
        assert msn >= raw + 6, (shots, raw, msn)
        assert msn >= untrained + 30, (shots, untrained, msn)


def shared_images(name: str) -> Path:
    root = Path(os.environ.get("MSN_MM_SHARED", Path(__file__).parents[2] / "shared"))
    folder = root / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no {name}: set MSN_MM_SHARED to the folder that holds data/{name}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_sample/train", "imagenet_sample"])
def test_twenty_steps_on_photographs_lower_the_loss(tmp_path, name):
    cfg = tiny_digits()
    photos = load_config("configs/msn_cifar10.py")
    cfg.model.data_preprocessor = photos.model.data_preprocessor
    cfg.model.backbone.in_chans = 3
    cfg.train_dataloader.dataset = ConfigDict(
        type="MultiViewDataset",
        dataset=dict(type="ImageFolder", data_root=str(shared_images(name)), indices=64),
        transform=photos.train_dataloader.dataset.transform,
    )
    cfg.train_cfg.max_epochs = 8
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None  # those are digits
    losses = []
    run(cfg, tmp_path, lambda _, outputs: losses.append(outputs["loss"].item()))
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4]), losses
