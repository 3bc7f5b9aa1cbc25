"""Micro-batches in a launched training: auto's choice, what is told of it, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from msn_mm.engine import micro_batch
from msn_mm.engine.launch import build_runner
from msn_mm.errors import UserError
from msn_mm.utils.dry_run import make_plan
from tests.helpers import run, tiny_digits, weights


def auto(**options: Any) -> Config:
    options = {"model.micro_batch": "auto", "train_cfg.max_epochs": 2, **options}
    # No validation: its features are not what this is about.
    options = {**options, "train_cfg.val_begin": 9, "default_hooks.checkpoint.interval": 1}
    return tiny_digits(**{**options, "default_hooks.checkpoint.max_keep_ckpts": -1})


def free(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    monkeypatch.setattr(micro_batch, "free_bytes", lambda _: number)


def test_auto_is_told_and_resumes_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = make_plan(tiny_digits()).memory
    assert needed is not None
    losses: dict[str, list[float]] = {"pieces": [], "whole": []}
    free(monkeypatch, round(0.8 * needed.total))
    pieces = run(
        auto(), tmp_path / "pieces", lambda _, out: losses["pieces"].append(out["loss"].item())
    )
    size = pieces.cfg.model.micro_batch
    assert isinstance(size, int) and 1 <= size < 32
    assert pieces.model.micro_batch == size
    log = "".join(path.read_text() for path in (tmp_path / "pieces").rglob("*.log"))
    assert f"micro-batch: {size} views at a time, " in log
    first = tmp_path / "pieces" / "epoch_1.pth"
    resumed = weights(run(auto(), tmp_path / "resumed", resume=str(first)))
    assert all(torch.equal(resumed[name], value) for name, value in weights(pieces).items())
    # And the numbers are those of whole batches, up to float32's rounding.
    free(monkeypatch, 2 * needed.total)
    whole = run(
        auto(), tmp_path / "whole", lambda _, out: losses["whole"].append(out["loss"].item())
    )
    assert whole.cfg.model.micro_batch is None
    assert len(losses["whole"]) == 8
    assert losses["pieces"] == pytest.approx(losses["whole"], rel=1e-4)


def test_what_auto_cannot_know_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, None)
    with pytest.raises(UserError, match="does not tell how much memory is free"):
        build_runner(auto(), work_dir=tmp_path)
    free(monkeypatch, 2**40)
    cfg = Config(dict(model=dict(micro_batch="auto"), train_dataloader={}))
    assert micro_batch.asks_auto(cfg)
    with pytest.raises(UserError, match="works for MaskedViT backbones; give a number"):
        micro_batch.cost_of(cfg, torch.nn.Linear(2, 2), amp=False, sharded=False)
