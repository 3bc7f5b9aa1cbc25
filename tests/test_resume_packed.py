"""A training from streamed shards, from Parquet and from Arrow resumes bitwise within an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from tests.helpers import run, tiny_digits
from tests.packed import write_arrow, write_images, write_parquet, write_tars
from tests.test_resume import assert_same, content

IMAGES = 48


def on(dataset: dict[str, Any]) -> Config:
    """A tiny MSN on grey cuts of ``IMAGES`` images: three steps an epoch, two epochs."""
    cfg = tiny_digits(
        **{
            "default_hooks.checkpoint.every_iters": 1,
            "default_hooks.checkpoint.max_keep_iters": -1,
            "train_cfg.max_epochs": 2,
            "train_dataloader.num_workers": 1,
            "train_dataloader.persistent_workers": True,
        }
    )
    cfg.train_dataloader.dataset.dataset = dataset
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.pop("val_interval")
    return cfg


@pytest.mark.parametrize(
    "kind", ["TarShards", "ParquetImages", pytest.param("ArrowImages", marks=pytest.mark.slow)]
)
def test_resumed_within_an_epoch_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip("webdataset" if kind == "TarShards" else "pyarrow")
    monkeypatch.setenv("MSN_MM_CACHE", str(tmp_path / "cache"))
    images = write_images(tmp_path / "images", IMAGES)
    dataset: dict[str, Any] = {"type": kind, "data_root": str(tmp_path / "data"), "window": 2}
    stage = tmp_path / "stage"
    if kind == "TarShards":
        write_tars(tmp_path / "data", images, each=6)
        dataset |= {"stream": True, "stage_dir": str(stage)}
    elif kind == "ParquetImages":
        write_parquet(tmp_path / "data", images, group=6)
    else:
        write_arrow(tmp_path / "data", images)
        dataset.pop("window")
    cfg = on(dataset)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(cfg, whole)
    for copy in stage.glob("*.msn_mm-copy"):
        copy.unlink()
    # Another number of workers, and shards that have to be copied again.
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    runner = run(cfg, out, resume=whole / "iter_5.pth")
    assert runner.iter == 6
    assert_same(content(whole / "epoch_2.pth"), content(out / "epoch_2.pth"))
