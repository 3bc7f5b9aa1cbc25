"""What the benchmarks share: the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_of(
    work: Callable[[], object],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Time of one call by a clock (the wall's by default), the device's queue included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start
