"""tools/benchmark.py: a run is measured, judged and left without a trace."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy_training import ToyData, write_config

from msn_mm.engine.bound import Measured
from msn_mm.engine.bound_report import measuring_config, report
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = {
    *("tool", "config", "checkpoint", "checkpoint_sha256", "settings", "metrics"),
    *("environment", "seconds"),
}
SLOW = "train_dataloader['dataset'] = dict(type='SlowToyData', length=16)\n"


@DATASETS.register_module(force=True)
class SlowToyData(ToyData):
    """The toy's data from a disk that takes 30 ms an image."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(0.03)
        return super().__getitem__(index)


def run(*words: str | Path) -> int:
    main = runpy.run_path(str(ROOT / "tools" / "benchmark.py"))["main"]
    status: int = main([str(word) for word in words])
    return status


def test_a_slow_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = write_config(tmp_path, SLOW), tmp_path / "out"
    assert run(config, "--steps", "3", "--out", out) == 0
    results = json.loads((out / "results.json").read_text())
    assert set(results) == CONTRACT and results["tool"] == "benchmark"
    found = results["metrics"]
    assert found["batch"] == 4 and found["processes"] == 1 and found["workers"] == 0
    assert found["bound"] == "input"
    assert found["input_s"] >= 4 * 0.03 and found["both_s"] >= 4 * 0.03
    assert min(found["step_s"], found["half_step_s"]) > 0 and found["silent_step_s"] is None
    assert found["image_wall_s"] >= 0.03 > found["image_s"] and 0 <= found["busy"] < 1
    assert found["images_per_s"]["both_s"] == pytest.approx(4 / found["both_s"])
    assert found["images_per_s"]["half_step_s"] == pytest.approx(2 / found["half_step_s"])
    said = capsys.readouterr().out
    assert "bound by: input" in said and "the files come slowly" in said
    assert f"results: {out / 'results.json'}" in said
    assert not list(out.rglob("*.pth")) and not (out / "last_checkpoint").exists()


def test_the_command_line_counts_more_than_the_config(tmp_path: Path) -> None:
    cfg = load_config(write_config(tmp_path, "accumulation = 2\n"))
    cfg.train_dataloader.update(num_workers=3, persistent_workers=True, prefetch_factor=4)
    assert measuring_config(cfg, 6).train_dataloader.num_workers == 3
    own = measuring_config(cfg, 6, workers=0, batch=8)
    loader = own.train_dataloader
    assert (loader.num_workers, loader.persistent_workers, loader.batch_size) == (0, False, 8)
    assert "prefetch_factor" not in loader and "global_batch_size" not in own
    assert cfg.global_batch_size == 4 and cfg.train_dataloader.persistent_workers
    digits = load_config("configs/msn_digits.py")
    assert measuring_config(digits, 6).train_cfg.try_amp
    assert not measuring_config(digits, 6, amp=True).train_cfg.try_amp
    assert measuring_config(digits, 6).val_dataloader is None


def test_a_shared_machine_is_told(tmp_path: Path) -> None:
    times = dict(image_s=0.01, image_wall_s=0.01, input_s=0.1, step_s=0.1, both_s=0.1)
    place = dict(batch=8, processes=1, accumulation=1, workers=1, cores=2, on_gpu=False, threads=1)
    for busy, told in ((0.6, True), (0.02, False)):
        found = Measured(**place, **times, busy=busy)
        said = report(found, tmp_path, "toy.py", {}, 1.0)
        assert ("for 60% of the time other work" in said) == told


def test_what_is_refused(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    with pytest.raises(UserError, match="trains nothing"):
        run("configs/eval/raw_pixels.py", *out)
    config = write_config(tmp_path, "train_cfg = dict(by_epoch=False, max_iters=4)\n")
    with pytest.raises(UserError, match="by epochs"):
        run(config, *out)
    with pytest.raises(UserError, match="16 images, fewer than one batch"):
        run(write_config(tmp_path), "--batch", "32", *out)


@pytest.mark.slow
def test_two_processes_measure_their_exchange(tmp_path: Path) -> None:
    config, out = write_config(tmp_path, "global_batch_size = 8\n"), tmp_path / "out"
    words = ["--launcher", "pytorch", "--steps", "3", "--workers", "1", "--out", str(out)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--standalone", "tools/benchmark.py", str(config), *words),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((out / "results.json").read_text())["metrics"]
    assert found["processes"] == 2 and found["batch"] == 4 and found["silent_step_s"] > 0
    assert found["images_per_s"]["step_s"] == pytest.approx(8 / found["step_s"])
    assert found["workers"] == 1 and "step, no exchange" in done.stdout
