"""From run to run: train what is not finished, measure what is."""

from __future__ import annotations

import fcntl
import signal
import sys
import time
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.sweeps.measuring import Measuring
from msn_mm.sweeps.run_place import RunPlace
from msn_mm.sweeps.sweep_file import Sweep
from msn_mm.sweeps.training import (
    has_slurm,
    is_queued,
    last_line,
    stop_by_signal,
    submit,
    train_here,
)
from msn_mm.utils.results import format_table, output_directory

_LOCK = ".lock"
_STOPPED_BY = (signal.SIGTERM, signal.SIGHUP)


class Sweeping:
    """One call of a sweep, in a directory that no other call is writing to.

    A failed run is told in a line and the others go on.

    Args:
        sweep: What is asked for.
        out: Directory of the sweep.
        tools: Directory of the tools that train.
        partition: Slurm's partition; ``None`` trains here.

    Attributes:
        found: By label and seed what :meth:`~Measuring.of_place` returned.
        failures: One line a run that failed.
        waiting: Names of the runs that Slurm holds.
        measuring: The protocol, on the data.

    Raises:
        UserError: The data do not fit the protocol, or a directory holds another run.
    """

    def __init__(self, sweep: Sweep, out: Path, tools: Path, partition: str | None = None) -> None:
        self.sweep = sweep
        self.out = out
        self.found: dict[str, dict[int, dict[str, Any]]] = {run.label: {} for run in sweep.runs}
        self.failures: list[str] = []
        self.waiting: list[str] = []
        self._tools = tools
        self._partition = partition
        self._places = places(sweep, out)
        for place in self._places:
            if sweep.is_selected(place.run):
                place.check()
        self.measuring = Measuring(sweep)
        self._lock: Any = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Sweeping:
        output_directory(self.out)
        self._lock = (self.out / _LOCK).open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise UserError(
                f"{self.out} is in use by another sweep, or by a training that a killed one left "
                "running; wait for it, or end it"
            ) from error
        # A terminal that closes sends SIGHUP, and not to the training, which has its own session.
        self._handlers = {s: signal.signal(s, stop_by_signal) for s in _STOPPED_BY}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._lock.close()

    def run(self) -> None:
        """Train and measure.

        Raises:
            UserError: The place cannot be written.
            TrainingStopped: By a signal; a training in progress has saved where it is.
        """
        for number, place in enumerate(self._places, 1):
            self._say(f"[{number}/{len(self._places)}] {place.name}: ", end="")
            try:
                self._say(self._one(place))
            except UserError as error:
                self._say(f"failed: {' '.join(str(error).split())}")
                self.failures.append(f"{place.name}: {error}")

    def _one(self, place: RunPlace) -> str:
        if place.finished() is None:
            if not self.sweep.is_selected(place.run):
                return "not trained (--only)"
            if self._partition is not None:
                return self._by_slurm(place)
            job = place.job()
            if job is not None and has_slurm() and is_queued(job):
                raise UserError(
                    f"Slurm's job {job} trains it: give --jobs slurm:PARTITION, or end the job"
                )
            begun = time.perf_counter()
            self._say("going on ... " if place.resumable() else "training ... ", end="")
            place.note_job(None)
            failure = train_here(place, self._tools, self._lock.fileno())
            if failure is not None:
                raise UserError(f"{failure}; log: {place.log}")
            self._say(f"{time.perf_counter() - begun:.0f} s; ", end="")
        self.found[place.run.label][place.seed] = kept = self.measuring.of_place(place)
        shown = ", ".join(f"{column}: {value:.1f}" for column, value in kept["values"].items())
        return f"top-1 {shown}"

    def _by_slurm(self, place: RunPlace) -> str:
        job = place.job()
        if job is not None and is_queued(job):
            self.waiting.append(place.name)
            return f"job {job} is waiting or running"
        gone = ""
        if job is not None:
            gone = f"job {job} ended before the training did ({last_line(place.log)}); "
        new = submit(place, self._tools, str(self._partition))
        self.waiting.append(place.name)
        return f"{gone}submitted {'again ' if gone else ''}as job {new}, log: {place.log}"

    def _say(self, text: str, end: str = "\n") -> None:
        print(text, end=end, flush=True, file=sys.stdout)


def places(sweep: Sweep, out: Path) -> list[RunPlace]:
    """Return the directories of all runs and seeds, a seed at a time.

    A sweep that is stopped early has then compared all runs on the seeds it has.
    """
    return [RunPlace(out, run, seed) for seed in sweep.seeds for run in sweep.runs]


def states(sweep: Sweep, out: Path) -> str:
    """Lay out which runs are finished, unfinished and new."""
    rows = []
    for run in sweep.runs:
        cells = []
        for seed in sweep.seeds:
            place = RunPlace(out, run, seed)
            if not place.is_asked():
                cells.append("another config" if place.directory.exists() else "new")
            elif place.finished() is not None:
                cells.append("finished")
            else:
                cells.append("unfinished")
        rows.append([run.label, *cells])
    return format_table(["run", *(f"seed {seed}" for seed in sweep.seeds)], rows)
