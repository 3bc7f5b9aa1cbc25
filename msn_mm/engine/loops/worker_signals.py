"""Workers of a data loader that outlive the signal which asks a run to save and stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

# A worker that nobody ends goes by itself so long after the first SIGTERM.
_LONGEST_S = 60


def outlive_first_sigterm(loader: DataLoader) -> None:
    """Let a loader's workers go on after the first SIGTERM, and ignore SIGUSR1.

    A scheduler signals all processes of a job. A worker that ended at once would
    starve the step at which its process is to stop. A second SIGTERM ends it, and
    so does a minute. Whoever starts workers like these must end them
    (:func:`end_workers`): left to the interpreter's exit, they make it wait.
    """
    loader.worker_init_fn = partial(_begin, loader.worker_init_fn)


def end_workers(loader: DataLoader, batches: Any) -> None:
    """End the workers behind an iterator of ``loader``, which begins anew when it is used again."""
    if hasattr(batches, "_shutdown_workers"):
        batches._shutdown_workers()
    if loader._iterator is batches:
        loader._iterator = None


def _begin(then: Callable[[int], None] | None, worker_id: int) -> None:
    signal.signal(signal.SIGTERM, _wait_for_another)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if then is not None:
        then(worker_id)


def _wait_for_another(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(_LONGEST_S)
