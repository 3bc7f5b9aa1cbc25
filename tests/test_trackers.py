"""Weights & Biases and MLflow by one line of a config, offline; both are read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import run, tiny_digits


def tracked(backend: str, **options: Any) -> Any:
    backends = [dict(type="LocalVisBackend"), dict(type=backend, **options)]
    logged = {"default_hooks.logger.interval": 2, "train_cfg.max_epochs": 2}
    return tiny_digits(**{"visualizer.vis_backends": backends, **logged})


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    monkeypatch.setenv("WANDB_MODE", "offline")
    runner = run(tracked("WandbVisBackend", init_kwargs=dict(project="msn")), tmp_path)
    runner.visualizer.close()
    (file,) = tmp_path.rglob("run-*.wandb")
    store = DataStore()
    store.open_for_scan(str(file))
    values: dict[str, list[str]] = {}
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            values.setdefault(name, []).append(item.value_json)
    assert len(values["loss"]) == 4
    last = runner.message_hub.get_scalar("train/loss").current()
    assert float(values["loss"][-1]) > 0 and last > 0
    assert {name for name in values if name.startswith(("views", "attention"))}


def test_mlflow_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    runner = run(tracked("MLflowVisBackend"), tmp_path / "run")
    runner.visualizer.close()
    client = mlflow.tracking.MlflowClient(mlflow.get_tracking_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [metric.step for metric in history] == [2, 4, 6, 8]
    files = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert {"views_1.png", "attention_8.png"} <= files
