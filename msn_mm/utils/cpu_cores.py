"""How many CPU cores a process may use; nothing heavy is imported."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPU_QUOTA = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu"))


def cpu_cores() -> int:
    """Return the CPU cores of this process: the least of affinity and the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota = cpu_quota(*_CPU_QUOTA)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(second: Path, first: Path) -> float | None:
    """Return the cores that a container's limit comes to, by either version of cgroups.

    Args:
        second: File of version 2.
        first: Directory of version 1.

    Returns:
        ``None`` where there is no limit.
    """
    try:
        if second.is_file():
            most, period = second.read_text().split()
        else:
            most = (first / "cpu.cfs_quota_us").read_text().strip()
            period = (first / "cpu.cfs_period_us").read_text().strip()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):  # no container, or "max"
        return None
