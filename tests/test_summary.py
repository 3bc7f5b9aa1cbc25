"""results.json of a training: what this run did, and what it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from toy_training import write_config

from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.summary import report_training


def reported(
    out: Path, epochs: int, extra: str = "", **launch: Any
) -> tuple[dict[str, Any], list[str]]:
    """Train the toy (four iterations an epoch); return results.json and the table's lines."""
    out.parent.mkdir(exist_ok=True)
    cfg = load_config(write_config(out.parent, extra), {"train_cfg.max_epochs": epochs})
    runner = build_runner(cfg, work_dir=out, **launch)
    train(runner)
    table = report_training(runner, Path("toy.py"), {}, 0.001)
    return json.loads((out / "results.json").read_text()), table.splitlines()


def test_only_the_run_s_own_checkpoint_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    results, table = reported(out, 2)
    assert results["checkpoint"] == str(out / "epoch_2.pth") and results["checkpoint_sha256"]
    assert f"checkpoint: {out / 'epoch_2.pth'}" in table
    assert "resumed_at" not in results["settings"] and "run_seconds" not in results["metrics"]
    # the directory holds the other run's, and this one saves none
    results, table = reported(out, 1, "default_hooks['checkpoint'] = None\n")
    assert results["checkpoint"] is None and "checkpoint: none" in table
    never = "default_hooks['checkpoint'].update(interval=9, save_last=False)\n"
    assert reported(out, 1, never)[0]["checkpoint"] is None
    assert reported(out, 3, never, resume=True)[0]["checkpoint"] is None


def test_a_resumed_run_tells_its_own_time_and_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reported(out, 2)
    saved = torch.load(out / "epoch_2.pth", weights_only=True)
    assert 0 < saved["meta"]["seconds"] < 600
    saved["meta"]["seconds"] = 5000.0
    torch.save(saved, out / "epoch_2.pth")
    results, table = reported(out, 3, resume=True)
    assert results["checkpoint"] == str(out / "epoch_3.pth")
    assert results["settings"]["resumed_at"] == 8 and results["settings"]["iterations"] == 12
    assert results["seconds"] == 0.001
    assert 5000 < results["metrics"]["run_seconds"] < 5600
    assert any(line.startswith("run_seconds") for line in table)
    # Nothing is left to train: the result is what it was resumed from, wherever that lies.
    elsewhere, _ = reported(tmp_path / "other", 3, resume=out / "epoch_3.pth")
    assert elsewhere["checkpoint"] == str(out / "epoch_3.pth")
    assert elsewhere["settings"]["resumed_at"] == 12
    # An older checkpoint does not say how long it took.
    saved = torch.load(out / "epoch_3.pth", weights_only=True)
    del saved["meta"]["seconds"]
    torch.save(saved, tmp_path / "older.pth")
    assert "run_seconds" not in reported(out, 4, resume=tmp_path / "older.pth")[0]["metrics"]
