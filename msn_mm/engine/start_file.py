"""What a start of a training leaves beside its logs: whether it went on with an earlier one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from mmengine.runner import Runner

START_FILE = "start.json"
_RESUMED_FROM = "resumed_from"


def write_start(runner: Runner) -> None:
    """Write ``start.json`` into the directory of this start's logs; the first process does."""
    if runner.rank != 0:
        return
    told = {_RESUMED_FROM: str(runner._load_from) if runner._resume else None}
    # A page that knows less is no reason to end a training.
    with contextlib.suppress(OSError):
        Path(runner.log_dir, START_FILE).write_text(json.dumps(told) + "\n", encoding="utf-8")


def is_resume(log_dir: Path) -> bool | None:
    """Return whether a start resumed a training; ``None`` where no ``start.json`` says so."""
    try:
        told = json.loads((log_dir / START_FILE).read_text(encoding="utf-8"))
        return told[_RESUMED_FROM] is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
