"""The peak of this process's resident memory, in MiB (Linux)."""

from __future__ import annotations

from pathlib import Path


def start_peak() -> float:
    """Forget the peak so far, and return the memory in use.

    ``getrusage`` cannot forget, and a child process starts with its parent's peak.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Return the largest memory in use since :func:`start_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
