"""Workers of a data loader that outlive the signal which asks a run to save and stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader

from msn_mm.engine.stopped import SAME_REQUEST_S

# A worker that nobody ends goes by itself so long after the first SIGTERM.
_LONGEST_S = 60

# When this process, a worker, was first asked to end.
_asked_at: float | None = None


class _Begins:
    """Starts a loader's iterators, and knows those that are alive."""

    def __init__(self, loader: DataLoader) -> None:
        self.begin = loader._get_iterator
        self.worker_init_fn = loader.worker_init_fn
        self.alive: WeakSet[Any] = WeakSet()

    def __call__(self) -> Any:
        batches = self.begin()
        self.alive.add(batches)
        return batches


def outlive_first_sigterm(loader: DataLoader) -> None:
    """Let a loader's workers go on after the first SIGTERM, and ignore SIGUSR1.

    A scheduler signals all processes of a job. A worker that ended at once would
    starve the step at which its process is to stop. A second SIGTERM, more than
    ``SAME_REQUEST_S`` after the first, ends it, and so does a minute. Whoever
    starts workers like these must end them (:func:`end_workers`): left to the
    interpreter's exit, they make it wait.
    """
    # Who iterates need not keep the iterator where it can be found again.
    begins = _Begins(loader)
    loader.worker_init_fn = partial(_begin, begins.worker_init_fn)
    loader._get_iterator = begins  # type: ignore[method-assign]


def end_workers(loader: DataLoader) -> None:
    """End a loader's workers and undo :func:`outlive_first_sigterm`; it can be used again."""
    begins: Any = loader._get_iterator
    if not isinstance(begins, _Begins):
        return
    for batches in list(begins.alive):
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
        if loader._iterator is batches:
            loader._iterator = None
    loader.worker_init_fn = begins.worker_init_fn
    del loader.__dict__["_get_iterator"]


def _begin(then: Callable[[int], None] | None, worker_id: int) -> None:
    signal.signal(signal.SIGTERM, _wait_for_another)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if then is not None:
        then(worker_id)


def _wait_for_another(number: int, frame: FrameType | None) -> None:
    global _asked_at
    now = time.monotonic()
    if _asked_at is None:
        _asked_at = now
        signal.alarm(_LONGEST_S)
    elif now - _asked_at > SAME_REQUEST_S:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), number)
