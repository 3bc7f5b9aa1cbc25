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
    """Kill one rank before step ``steps[n]`` in the n-th start of the run."""

    def __init__(self, steps: list[int], rank: int = 1) -> None:
        self.steps, self.rank = steps, rank

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        start = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        due = self.steps[start : start + 1] == [runner.iter]
        if due and dist.get_rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)
