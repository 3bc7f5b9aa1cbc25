"""How much memory a device has left."""

from __future__ import annotations

from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
# Limit and use of this process's container, by the second and the first version of cgroups.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that a device can still give; None where nothing tells them.

    Of a CPU it is what the kernel calls available, or what the container's limit
    leaves where that is less (Linux). Of Apple's GPU, which shares the machine's memory,
    it is what the system recommends to use at most, less what this process has.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    known = [free for free in (_available(), *map(_left_in, _CGROUPS)) if free is not None]
    return min(known, default=None)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _left_in(cgroup: tuple[Path, str, str]) -> int | None:
    folder, limit, used = cgroup
    try:
        most, now = (folder / limit).read_text().strip(), int((folder / used).read_text())
        stat = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Pages of files that the kernel would drop before it refuses memory.
        cached = {name: int(value) for name, value in stat}.get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return max(0, int(most) - now + cached) if most.isdigit() else None
