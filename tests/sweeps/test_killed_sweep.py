"""A real sweep on digits, killed without warning and started again: the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
config = "configs/msn_digits.py"
options = {
    "model.backbone.depth": 1,
    "model.backbone.embed_dim": 24,
    "model.head.hidden_dim": 16,
    "train_dataloader.dataset.dataset.indices": 64,
    "global_batch_size": 16,
    "base_batch_size": 16,
    "train_cfg.max_epochs": 16,
    "train_cfg.val_interval": 100,
    "default_hooks.checkpoint.interval": 2,
}
runs = [
    dict(label="MSN"),
    dict(label="PMSN", config="configs/pmsn_digits.py"),
]
evaluation = dict(images_per_class=(1, 2), splits=3, knn=(5,))
baselines = ()
"""


def start(file: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools/sweep.py"), str(file), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows(out: Path) -> dict[str, Any]:
    found = json.loads((out / "results.json").read_text())["metrics"]["rows"]
    return {label: row["columns"] for label, row in found.items()}


@pytest.mark.slow
def test_a_killed_sweep_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    file = tmp_path / "try.py"
    file.write_text(SWEEP)
    killed = start(file, tmp_path / "killed")
    while not list((tmp_path / "killed/pmsn/seed_0").glob("epoch_*.pth")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    # As a machine that goes down: the training, which has a session of its own, too.
    trainings = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    for pid in (killed.pid, *map(int, trainings)):
        os.killpg(pid, signal.SIGKILL)
    killed.communicate()
    assert trainings
    assert not (tmp_path / "killed/pmsn/seed_0/results.json").exists()

    again = start(file, tmp_path / "killed")
    said = again.communicate()[0]
    assert again.returncode == 0 and "PMSN, seed 0: going on ..." in said, said
    assert "MSN, seed 0: top-1" in said, "a finished run is not trained again"
    whole = start(file, tmp_path / "whole")
    assert whole.wait() == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    trained = json.loads((tmp_path / "killed/pmsn/seed_0/results.json").read_text())
    assert 0 < trained["settings"]["resumed_at"] < trained["settings"]["iterations"] == 64
