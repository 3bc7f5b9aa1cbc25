"""Weights & Biases and MLflow by one line of a config, offline; both are read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import run, tiny_digits


def tracked(backend: str, **options: Any) -> Any:
    backends = [dict(type="LocalVisBackend"), dict(type=backend, **options)]
    logged = {"default_hooks.logger.interval": 2, "train_cfg.max_epochs": 2}
    return tiny_digits(**{"visualizer.vis_backends": backends, **logged})


def scalars(work_dir: Path) -> list[str]:
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    return log.read_text().splitlines()


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    seen = {}

    def look(runner: Any, outputs: Any) -> None:
        import wandb

        if runner.iter == 7:
            seen.update(dict(wandb.run.summary))

    runner = run(tracked("WandbVisBackend", init_kwargs=dict(project="msn")), tmp_path, look)
    assert {"loss", "loss_msn", "views"} <= set(seen)
    logged = [json.loads(line) for line in scalars(tmp_path)]
    assert seen["loss"] == pytest.approx(next(r["loss"] for r in logged if r["iter"] == 8))
    (file,) = tmp_path.rglob("run-*.wandb")
    assert file.stat().st_size > 1000 and list(tmp_path.rglob("media/images/views_*.png"))
    assert runner.iter == 8


def test_mlflow_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    run(tracked("MLflowVisBackend", tracking_uri="sqlite:///mlflow.db"), tmp_path / "run")
    client = mlflow.tracking.MlflowClient(mlflow.get_tracking_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [metric.step for metric in history] == [2, 4, 6, 8]
    files = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert {"views_1.png", "attention_8.png"} <= files
