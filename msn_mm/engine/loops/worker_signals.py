"""Workers of a data loader that outlive the signal which asks a run to save and stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

from torch.utils.data import DataLoader


def outlive_first_sigterm(loader: DataLoader) -> None:
    """Let a loader's workers go on after the first SIGTERM, and ignore SIGUSR1.

    A scheduler signals all processes of a job. A worker that ended at once would
    starve the step at which its process is to stop. The second SIGTERM ends it.
    """
    loader.worker_init_fn = partial(_begin, loader.worker_init_fn)


def _begin(then: Callable[[int], None] | None, worker_id: int) -> None:
    signal.signal(signal.SIGTERM, _wait_for_another)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if then is not None:
        then(worker_id)


def _wait_for_another(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
