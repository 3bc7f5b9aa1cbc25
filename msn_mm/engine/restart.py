"""A run that torchrun started again after a process died goes on by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.errors import UserError

# Written by msn_mm.utils.torchrun, which a training process need not import.
LAUNCHED_AT = "MSN_MM_LAUNCHED_AT"


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """Return how often torchrun has started the processes of this run again."""
    return int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def resume_of_restart(
    work_dir: str | Path, resume: bool | str | Path, environ: Mapping[str, str] = os.environ
) -> tuple[bool | str | Path, list[str]]:
    """Return what to resume from when this is a restart, and what to say of it.

    A restarted run goes on from the newest whole checkpoint that it wrote
    itself, whatever it first started from. Where it wrote none, it starts as it
    first did: what an earlier run left in the directory is not its own.

    Args:
        work_dir: directory of the run.
        resume: what the user asked for: nothing, the newest checkpoint, or a path.
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
    if newest is not None and newest.stat().st_mtime >= float(environ.get(LAUNCHED_AT, "0")):
        return newest, [f"restart {count}: going on from {newest.name}"]
    start = "from scratch" if not resume else f"as at first (--resume {resume})"
    return resume, [f"restart {count}: no whole checkpoint of this run yet, starting {start}"]
