"""What a start of a training leaves beside its logs: whether it went on with an earlier one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from mmengine.runner import Runner

from msn_mm.errors import UserError
from msn_mm.utils.results import write_atomically

START_FILE = "start.json"
_RESUMED_FROM = "resumed_from"


def write_start(runner: Runner) -> None:
    """Write ``start.json`` into the directory of this start's logs; the first process does."""
    if runner.rank != 0:
        return
    told = {_RESUMED_FROM: str(runner._load_from) if runner._resume else None}
    # A page that knows less is no reason to end a training.
    with contextlib.suppress(OSError, UserError):
        write_atomically(Path(runner.log_dir, START_FILE), f"{json.dumps(told)}\n".encode())


def is_resume(log_dir: Path) -> bool | None:
    """Return whether a start resumed a training; ``None`` where no ``start.json`` says so."""
    try:
        told = json.loads((log_dir / START_FILE).read_text(encoding="utf-8"))
        return told[_RESUMED_FROM] is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
