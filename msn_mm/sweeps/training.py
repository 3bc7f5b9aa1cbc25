"""Trainings of a sweep, each in a process of its own: here, or by Slurm."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from msn_mm.engine.stopped import TrainingStopped
from msn_mm.errors import UserError
from msn_mm.sweeps.run_place import RunPlace

_TAIL_BYTES = 16384


def arguments(place: RunPlace) -> list[str]:
    """Return the arguments of ``tools/train.py`` for a run, going on where it was left."""
    words = [place.run.config, "--out", str(place.directory), "--seed", str(place.seed)]
    if place.resumable() is not None:
        words.append("--resume")
    if place.run.options:
        words.append("--cfg-options")
        words += [f"{key}={value!r}" for key, value in place.run.options.items()]
    return words


def train_here(place: RunPlace, tools: Path, lock: int | None = None) -> str | None:
    """Train a run to its end in a process of its own and wait for it.

    Args:
        place: The run.
        tools: Directory of the tools.
        lock: A file descriptor that the training keeps open as long as it lives.

    Returns:
        ``None``, or in one line why it failed.

    Raises:
        UserError: The place cannot be written.
    """
    command = [sys.executable, "-u", str(tools / "train.py"), *arguments(place)]
    place.begin(command)
    with place.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            # Ctrl-C goes to a terminal's whole group, and a training saves on SIGTERM alone.
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            # it saves where it is, and the next call goes on from there
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if status == 0 and place.finished() is not None:
        return None
    return f"status {status}: {last_line(place.log)}"


def submit(place: RunPlace, tools: Path, partition: str) -> str:
    """Hand a run to Slurm as a batch job and return the job's number.

    Args:
        place: The run.
        tools: Directory of the tools.
        partition: Slurm's partition.

    Raises:
        UserError: Slurm does not take it, or the path has blanks.
    """
    if re.search(r"\s", str(place.directory)):
        raise UserError(f"Slurm's options take no blanks, and --out has: '{place.directory}'")
    words = arguments(place)
    command = [str(tools / "slurm_train.sh"), partition, f"{place.run.slug}_{place.seed}", *words]
    place.begin(command)
    own = f"--output={place.log}"
    done = subprocess.run(
        command,
        env={
            **os.environ,
            "REQUEUE": "1",
            "PYTHON": os.environ.get("PYTHON", sys.executable),
            "SBATCH_ARGS": f"{os.environ.get('SBATCH_ARGS', '')} {own}".strip(),
        },
        capture_output=True,
        text=True,
    )
    found = re.search(r"\b(\d+)\b", done.stdout)
    if done.returncode or found is None:
        said = " ".join((done.stderr or done.stdout).split()) or "nothing said"
        raise UserError(f"Slurm did not take {place.name}: {said}")
    place.note_job(found[1])
    return found[1]


def is_queued(job: str) -> bool:
    """Whether Slurm still holds a job, waiting or running.

    Raises:
        UserError: Slurm does not answer, which says nothing of the job.
    """
    if not has_slurm():
        raise UserError("squeue is not here: gather the sweep where Slurm is")
    done = subprocess.run(
        ["squeue", "--noheader", "--jobs", job, "--format", "%i"], capture_output=True, text=True
    )
    if done.returncode == 0:
        return bool(done.stdout.strip())
    said = " ".join(done.stderr.split()) or f"status {done.returncode}"
    if "invalid job id" in said.lower():  # of a job that it has forgotten
        return False
    raise UserError(f"squeue does not tell whether job {job} is over ({said}); try again later")


def has_slurm() -> bool:
    """Whether Slurm can be asked from here."""
    return shutil.which("squeue") is not None


def last_line(log: Path) -> str:
    """Return the line of a log that says most about its end: the last error, else the last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "it left no log"
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if re.match(r"(error: |[\w.]*(Error|Exception)\b)", line)]
    return (errors or said or ["it said nothing"])[-1][:300]


def stop_by_signal(number: int, frame: Any) -> None:
    """Signal handler: leave as a training does that was asked to stop."""
    raise TrainingStopped(
        number, f"stopped by {signal.Signals(number).name}; the same command goes on from here"
    )
