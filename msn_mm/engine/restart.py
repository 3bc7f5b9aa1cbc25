"""A run that torchrun or Slurm started again goes on by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.errors import UserError

# Written by msn_mm.utils.torchrun, which a training process need not import.
LAUNCHED_AT = "MSN_MM_LAUNCHED_AT"


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """Return how often torchrun, or Slurm by a requeue, has started this run again."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return sum(int(environ.get(name) or 0) for name in counts)


def resume_of_restart(
    work_dir: str | Path,
    resume: bool | str | Path,
    load_from: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[bool | str | Path, list[str]]:
    """Return what to resume from when this is a restart, and what to say of it.

    A restarted run goes on from the newest whole checkpoint that it wrote
    itself, whatever it first started from. Where it wrote none, it starts as it
    first did: what an earlier run left in the directory is not its own.

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
    try:
        newest: Path | None = find_resumable(work_dir)[0]
    except UserError:
        newest = None
    # A requeued job is launched anew, so its own checkpoints are older than the launch.
    requeued = int(environ.get("SLURM_RESTART_COUNT") or 0) > 0
    since = 0.0 if requeued else float(environ.get(LAUNCHED_AT, "0"))
    if newest is not None and newest.stat().st_mtime >= since:
        return newest, [f"restart {count}: going on from {newest.name}"]
    start = f"from '{load_from}', as at first" if load_from else "from scratch"
    if resume:
        start = f"as at first (--resume {resume})"
    return resume, [f"restart {count}: no whole checkpoint of this run yet, starting {start}"]
