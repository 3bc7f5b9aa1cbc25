"""The benchmark of leaks runs, and tells a leak from none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
