"""The benchmarks run: leaks are told from none, a step is compared with a plain one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from msn_mm.engine.launch import load_config
from msn_mm.utils.dry_run import make_plan
from msn_mm.utils.vit_cost import ViTShape
from tests.helpers import python_process

ROOT = Path(__file__).parent.parent

LEAK = """
import runpy, sys
from msn_mm.engine.hooks.ema_hook import EMAHook
kept, update = [], EMAHook.after_train_iter
def leak(self, runner, *args, **kwargs):
    update(self, runner, *args, **kwargs)
    kept.append((bytearray(b"x" * 2**20), open(__file__)))
EMAHook.after_train_iter = leak
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/leaks.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("leaky", [False, True])
def test_leaks(tmp_path: Path, leaky: bool) -> None:
    script = tmp_path / "leaky.py"
    script.write_text(LEAK)
    command = [sys.executable, str(script) if leaky else "benchmarks/leaks.py"]
    command += ["--iterations", "80", "--first", "40", "--workers", "1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == leaky, done.stdout + done.stderr[-2000:]
    verdicts = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()[-4:]}
    assert verdicts["files"] == verdicts["main"] == ("GROWS" if leaky else "ok"), done.stdout


@pytest.mark.slow
def test_train_step(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    command = [sys.executable, "benchmarks/train_step.py", "configs/msn_digits.py", "--batch", "16"]
    done = subprocess.run(
        [*command, "--steps", "3", "--peak", "1", "--json", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(file.read_text())
    ours, plain = found["sides"]["ours"], found["sides"]["plain"]
    # Ours leaves out the patches of the last block; else the same products, and positions for
    # the small views once more.
    plan = make_plan(load_config("configs/msn_digits.py"))
    shape = ViTShape(width=96, hidden=384, depth=4, patch_numbers=64)
    saved = sum(
        view.num
        * (1 if view.target else 3)
        * (shape.block_flops(view.tokens) - shape.block_flops(view.tokens, cls_only=True))
        for view in plan.views
    )
    assert plain["flops"] - 16 * saved == pytest.approx(ours["flops"], rel=0.01)
    assert ours["flops"] < 0.9 * plain["flops"]
    for side in (ours, plain):
        assert len(side["step_s"]) == 3
        assert side["images_per_s"] == pytest.approx(16 / side["step_s_median"])
        assert side["of_peak"] == pytest.approx(side["flops_per_s"] / 1e12)
    assert f"{found['ratio']:.2f} times" in done.stdout


def table(script: str, file: Path, *options: str) -> dict[str, dict[str, float]]:
    """Run a benchmark on the digits' config and return its rows."""
    command = [sys.executable, f"benchmarks/{script}.py", "configs/msn_digits.py", *options]
    done = subprocess.run(
        [*command, "--batch", "16", "--rounds", "2", "--json", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(file.read_text())["rows"]
    for name, row in rows.items():
        assert len(row["step_s"]) == 2 and name in done.stdout
        assert row["images_per_s"] == pytest.approx(16 / row["step_s_median"])
    return rows


@pytest.mark.slow
def test_input_pipeline(tmp_path: Path) -> None:
    """Fewer images than a batch are enough, in a loader too."""
    file = tmp_path / "input.json"
    words = ["--count", "3", "--batch", "4", "--turns", "1", "--json", file]
    python_process("benchmarks/input_pipeline.py", *words, cwd=ROOT, timeout=300)
    figures = json.loads(file.read_text())["figures"]
    sides = {"released", "worker", "decode", "device_half", "everything"}
    assert {*sides, "released_in_loader", "worker_in_loader"} <= set(figures)
    for side in figures.values():
        assert len(side["ms_an_image_turns"]) == 1 and side["ms_an_image"] > 0


@pytest.mark.slow
def test_tables_of_masks_and_micro_batches(tmp_path: Path) -> None:
    rows = table("masking_table", tmp_path / "masks.json", "--masks", "0", "0.5")
    for side in ("ours", "plain"):
        # Dropped tokens take no memory.
        assert rows[f"{side} 0.5"]["peak_bytes"] < rows[f"{side} 0"]["peak_bytes"]
    rows = table("micro_batch", tmp_path / "micro.json", "--sizes", "16", "4")
    peaks = [
        rows[name]["peak_bytes"] for name in ("whole batch", "micro-batch 16", "micro-batch 4")
    ]
    assert peaks == sorted(peaks, reverse=True)
    for row in rows.values():
        assert row["peak_bytes"] < row["predicted_bytes"] < 1.4 * row["peak_bytes"]
