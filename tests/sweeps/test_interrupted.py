"""Sweeps that are stopped, run twice at once, or handed to Slurm."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from msn_mm.sweeps.run_place import RunPlace
from msn_mm.sweeps.sweep_file import read_sweep
from msn_mm.sweeps.training import train_here
from tests.sweeps.place import ROOT, Place, tool


def test_a_stopped_sweep_lets_its_training_save_and_goes_on(place: Place) -> None:
    place.does(msn_lambda_5__seed_0="slow")

    def stop_when_at_work() -> None:
        for _ in range(600):
            if (place.out / "msn_lambda_5/seed_0/at_work").exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    stopper = threading.Thread(target=stop_when_at_work)
    stopper.start()
    assert place.sweep() == 128 + signal.SIGTERM
    stopper.join()
    assert (place.out / "msn_lambda_5/seed_0/epoch_1.pth").is_file(), "it was let save"
    place.does()
    assert place.sweep() == 0
    assert [call["name"] for call in place.calls].count("msn/seed_0") == 1
    assert tool("train").parse_args(place.calls[2]["argv"]).resume is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_terminal_lets_a_training_save_too(place: Place, number: signal.Signals) -> None:
    """It sends Ctrl-C, and that it closes, to the whole group of its processes."""
    place.does(msn__seed_0="slow")
    script = place.tools / "call.py"
    script.write_text(
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = ['sweep.py', {str(place.file)!r}, '--out', {str(place.out)!r}]\n"
        f"runpy.run_path({str(place.tools / 'sweep.py')!r}, run_name='__main__')\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], cwd=ROOT, start_new_session=True)
    while not (place.out / "msn/seed_0/at_work").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number
    assert (place.out / "msn/seed_0/epoch_1.pth").is_file(), "it was let save"


def test_two_sweeps_do_not_share_a_directory(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.out.mkdir()
    with (place.out / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert "is in use by another sweep" in place.refused(capsys=capsys)
    assert not place.calls


def test_a_training_that_outlives_its_sweep_keeps_the_directory(
    place: Place, weights: Path
) -> None:
    run = read_sweep(place.file).runs[0]
    place.does(msn__seed_0="slow")
    place.out.mkdir()

    def is_free() -> bool:
        with (place.out / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

    held = (place.out / ".lock").open("a")
    fcntl.flock(held, fcntl.LOCK_EX)
    training = threading.Thread(
        target=train_here, args=(RunPlace(place.out, run, 0), place.tools, held.fileno())
    )
    training.start()
    while not (place.out / "msn/seed_0/at_work").exists():
        time.sleep(0.02)
    held.close()  # as when the sweep is killed
    assert not is_free()
    (place.tools / "go").touch()
    training.join()
    assert is_free()


def test_slurm_is_given_the_runs_and_asked_for_them_later(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bin_ = place.tools / "bin"
    bin_.mkdir()
    # keeps its arguments; the job's number is that of the line
    (bin_ / "sbatch").write_text(
        f'#!/bin/bash\nprintf "%s\\t" "$@" >>{bin_}/jobs; echo >>{bin_}/jobs\n'
        f"echo Submitted batch job $(wc -l <{bin_}/jobs)\n"
    )
    (bin_ / "squeue").write_text(
        f"#!/bin/bash\nif [ -e {bin_}/deaf ]; then echo Unable to contact slurm >&2; exit 1; fi\n"
        f'grep -x "$3" {bin_}/held || {{ echo error: Invalid job id specified >&2; exit 1; }}\n'
    )
    for name in ("sbatch", "squeue"):
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    jobs = ["--jobs", "slurm:gpu", "--seeds", "0"]
    assert place.sweep(*jobs) == 0
    said = capsys.readouterr().out
    submitted = (bin_ / "jobs").read_text().splitlines()
    assert len(submitted) == 2 and "Slurm holds 2 of the trainings" in said
    words = submitted[1].split("\t")
    assert words[words.index("--partition") + 1] == "gpu"
    assert f"--output={place.out}/msn_lambda_5/seed_0/output.log" in words
    assert "model.loss.me_max_weight=5.0" in words[words.index("--wrap") + 1]
    # Slurm does not answer: nothing is known, so nothing is submitted twice
    (bin_ / "deaf").touch()
    assert place.sweep(*jobs) == 1
    said = capsys.readouterr().out
    assert said.count("whether job 1 is over (Unable to contact slurm); try again later") >= 1
    (bin_ / "deaf").unlink()
    # the first is at work, the second ended early
    (bin_ / "held").write_text("1\n2\n")
    assert place.sweep("--seeds", "0") == 1, "not trained here while Slurm does"
    assert "Slurm's job 2 trains it: give --jobs" in capsys.readouterr().out and not place.calls
    (bin_ / "held").write_text("1\n")
    assert place.sweep(*jobs) == 0
    said = capsys.readouterr().out
    assert "job 1 is waiting or running" in said
    assert "job 2 ended before the training did" in said and "submitted again as job 3" in said
    # both are done: gathered
    (bin_ / "held").write_text("")
    for call in ("msn", "msn_lambda_5"):
        record = json.loads((place.out / call / "seed_0/run.json").read_text())
        argv = record["command"][3:]
        spec = importlib.util.spec_from_file_location("stand_in", place.tools / "train.py")
        assert spec is not None and spec.loader is not None
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["train.py", *argv])
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert place.sweep(*jobs) == 0
    assert len((bin_ / "jobs").read_text().splitlines()) == 3
    assert place.results["metrics"]["rows"]["MSN"]["trained_seeds"] == [0]
    with_blanks = place.sweep("--jobs", "slurm:gpu", "--out", f"{place.out}/a b", "--seeds", "0")
    assert with_blanks == 1 and "no blanks" in capsys.readouterr().out
