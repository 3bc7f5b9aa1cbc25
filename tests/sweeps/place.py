"""A sweep file, its directory, and tools that stand in for training."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from msn_mm.utils.cli import run_tool

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model.backbone.depth": 1,
    "model.backbone.embed_dim": 24,
    "model.head.hidden_dim": 16,
    "train_cfg.max_epochs": 2,
    "param_scheduler.0.end": 1,
    "param_scheduler.1.begin": 0,
    "test_dataloader.dataset.support.indices": 100,
    "test_dataloader.dataset.query.indices": 30,
}
SWEEP = f"""
title = "a try"
config = "configs/msn_digits.py"
seeds = [0, 3]
options = {TINY!r}
runs = [
    dict(label="MSN", published=50.5),
    dict(label="MSN, lambda 5", options={{"model.loss.me_max_weight": 5.0}}),
]
published = "published"
evaluation = dict(images_per_class=(1, 2), splits=3, knn=(5,))
"""


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place:
    """A sweep file, its directory, and tools that train in no time."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.out = root / "out"
        self.tools = root / "tools"
        self.tools.mkdir()
        shutil.copy(Path(__file__).with_name("stand_in_train.py"), self.tools / "train.py")
        shutil.copy(ROOT / "tools" / "sweep.py", self.tools)
        shutil.copy(ROOT / "tools" / "slurm_train.sh", self.tools)
        shutil.copy(weights, self.tools / "weights.pth")
        self.file = root / "try.py"
        self.file.write_text(SWEEP)
        self.does()

    def does(self, **what: str) -> None:
        named = {key.replace("__", "/"): value for key, value in what.items()}
        (self.tools / "does.json").write_text(json.dumps(named))

    def sweep(self, *words: str) -> int:
        spec = importlib.util.spec_from_file_location("tool_sweep", self.tools / "sweep.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main([str(self.file), "--out", str(self.out), *words])

    def refused(self, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
        with pytest.raises(SystemExit) as stop:
            run_tool(lambda _: self.sweep(*words))
        assert stop.value.code == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("error: ")
        return said[0]

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self.tools / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.out / "results.json").read_text())
