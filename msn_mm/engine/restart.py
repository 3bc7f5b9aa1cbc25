"""A run that torchrun or Slurm started again goes on by itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from msn_mm.engine.checkpointing import RUN, find_resumable, newest_whole
from msn_mm.engine.distributed import decided_by_first
from msn_mm.errors import UserError

# Written by msn_mm.utils.torchrun, which a training process need not import.
LAUNCHED_AT = "MSN_MM_LAUNCHED_AT"


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """Return how often torchrun, or Slurm by a requeue, has started this run again."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return sum(int(environ.get(name) or 0) for name in counts)


def run_ids(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what names this run, for a checkpoint: a restart knows its own by it.

    Args:
        environ: the process's environment.

    Returns:
        ``job``: Slurm's number, which a requeue keeps; ``launch``: torchrun's
        start, which its restarts keep. Neither where nothing starts a run again.
    """
    array = environ.get("SLURM_ARRAY_JOB_ID")
    task = f"{array}_{environ.get('SLURM_ARRAY_TASK_ID')}" if array else None
    named = environ.get("TORCHELASTIC_RUN_ID", "none")
    launch = environ.get(LAUNCHED_AT) or (named if named != "none" else None)
    if launch is None and "TORCHELASTIC_RUN_ID" in environ:
        launch = _parent()
    ids = {"job": task or environ.get("SLURM_JOB_ID"), "launch": launch}
    return {name: value for name, value in ids.items() if value}


def _parent() -> str | None:
    """Return what names the process that started this one; torchrun by itself gives no name."""
    number = os.getppid()
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not a Linux
        return None
    return f"{number} of {fields[19]}"  # the clock tick at which it began


def resume_of_restart(
    work_dir: str | Path,
    resume: bool | str | Path,
    load_from: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[bool | str | Path, list[str]]:
    """Return what to resume from when this is a restart, and what to say of it.

    A restarted run goes on from the newest whole checkpoint that it wrote
    itself (see :func:`run_ids`), whatever it first started from. Where it wrote
    none, it starts as it first did: what another run left in the directory is
    not its own.

    Args:
        work_dir: directory of the run.
        resume: what the user asked for: nothing, the newest checkpoint, or a path.
        load_from: the checkpoint whose weights the run started with, if any.
        environ: the process's environment.

    Returns:
        ``resume`` or the path of the run's own newest checkpoint, and sentences
        for the log (none in a first start).
    """
    count = restarts(environ)
    if count == 0:
        return resume, []
    # A requeued job is launched anew; several launches may share one job.
    requeued = int(environ.get("SLURM_RESTART_COUNT") or 0) > 0
    kind = "job" if requeued else "launch"
    own = run_ids(environ).get(kind)
    try:
        newest, skipped = find_resumable(
            work_dir, of=lambda meta: own is not None and (meta.get(RUN) or {}).get(kind) == own
        )
    except UserError:
        start = f"from '{load_from}', as at first" if load_from else "from scratch"
        if resume:
            start = f"as at first (--resume {resume})"
        return resume, [f"restart {count}: no whole checkpoint of this run yet, starting {start}"]
    return newest, [*skipped, f"restart {count}: going on from {newest.name}"]


def settle_resume(
    work_dir: str | Path,
    resume: bool | str | Path,
    load_from: str | None = None,
    environ: Mapping[str, str] = os.environ,
    or_start: bool = False,
) -> tuple[Path | None, list[tuple[int, str]]]:
    """Return the checkpoint that this start goes on from: asked for, or by a restart.

    All processes call; the first looks and decides for all. Another machine may
    see a file later, and each look reads whole checkpoints.

    Args:
        work_dir: directory of the run.
        resume: what the user asked for: nothing, the newest checkpoint, or a path.
        load_from: the checkpoint whose weights the run started with, if any.
        environ: the process's environment.
        or_start: where the directory holds no checkpoint at all, start.

    Returns:
        The file, ``None`` for a start, and levels and sentences for the log.

    Raises:
        UserError: on all processes, when there is nothing whole to resume from.
    """

    def look() -> tuple[Path | None, list[tuple[int, str]]]:
        found, said = resume_of_restart(work_dir, resume, load_from, environ)
        if found and found is resume:  # else a restart's own, which is known to be whole
            asked = None if isinstance(found, bool) else Path(found)
            if or_start and asked is None and newest_whole(Path(work_dir)) == (None, []):
                text = f"resume=True: no checkpoint in '{work_dir}' yet, starting from scratch"
                return None, [(logging.INFO, text)]
            found, skipped = find_resumable(work_dir, asked)
            said += skipped
        notes = [(logging.WARNING, text) for text in said]
        if not found or isinstance(found, bool):
            return None, notes
        return Path(found), [*notes, (logging.INFO, f"resuming from {found}")]

    return decided_by_first(look)
