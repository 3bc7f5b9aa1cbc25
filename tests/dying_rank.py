"""A hook that kills its own process at a step, as a machine short of memory would."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch.distributed as dist
from mmengine.hooks import Hook

from msn_mm.registry import HOOKS


@HOOKS.register_module(force=True)
class DieHook(Hook):
    """End one rank after ``step`` steps, in the first ``lives`` starts of the run."""

    def __init__(self, step: int, rank: int = 1, lives: int = 1, number: str = "SIGKILL") -> None:
        self.step, self.rank, self.lives = step, rank, lives
        self.number = getattr(signal, number)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        started = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if runner.iter == self.step and dist.get_rank() == self.rank and started < self.lives:
            os.kill(os.getpid(), self.number)
