"""A number that all processes agree on at the same step, without waiting for each other."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size

from msn_mm.engine.distributed import TIMEOUT_S


class StepVote:
    """The largest number that any process has named, known to all at the same step.

    Each step starts an all-reduce over gloo, which runs on a thread beside the
    training, and reads that of the step before, which is long done. Nothing
    waits and no GPU is involved. One process alone knows at once.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._number = torch.zeros(1, dtype=torch.int64)
        self._work: dist.Work | None = None

    def open(self, timeout_s: float = TIMEOUT_S) -> None:
        """Make the group that votes; all processes must call, once, before the first vote.

        Args:
            timeout_s: seconds that a vote waits for a process.
        """
        if get_world_size() > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))

    def cast(self, number: int) -> int:
        """Name a number at this step; return the largest one of the step before.

        All processes must call at the same steps. 0 before the first result.
        """
        if self._group is None:
            return number
        agreed = self.close()
        self._number = torch.tensor([number])
        self._work = dist.all_reduce(
            self._number, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def close(self) -> int:
        """Wait for the vote that is under way, if any, and return its result."""
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._number)

    def release(self, together: bool = True) -> None:
        """Give the group up; :meth:`open` makes another one.

        A group's threads must not be left to the interpreter's end: one that lets
        go of a vote's tensor then ends the process by SIGABRT.

        Args:
            together: all processes do so here. Else one may never come: neither
                its vote nor the group's threads are waited for.
        """
        group, self._group = self._group, None
        if group is not None and together:
            # The vote does not matter any more, and the group may be gone with all others.
            with suppress(RuntimeError):
                self.close()
            with suppress(RuntimeError, ValueError):
                dist.destroy_process_group(group)
        self._work = None
