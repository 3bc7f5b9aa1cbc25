"""Memory and time of several kinds of training step, for the tables of two benchmarks.

A row is built anew in each round, measured and dropped, so only one model is in memory at
a time, and a change of the machine's speed touches all rows.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timing import seconds_of

from msn_mm.utils.peak_memory import PeakMemory

Step = Callable[[], object]


@dataclass
class Row:
    """What was measured of a kind of step.

    Attributes:
        batch: Images of a step.
        times: Seconds of each timed step.
        peak_bytes: Most bytes alive at once within a step, weights and optimizer included.
    """

    batch: int
    times: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def images_per_s(self) -> float:
        """Images a second by the median step."""
        return self.batch / statistics.median(self.times)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        rate = {"step_s_median": statistics.median(self.times), "images_per_s": self.images_per_s}
        return {"step_s": self.times, "peak_bytes": self.peak_bytes, **rate}


def measure(
    builders: Mapping[str, Callable[[], Step]],
    batch: int,
    rounds: int,
    steps: int,
    device: torch.device,
    clock: str,
) -> dict[str, Row]:
    """Build and run every row in every round.

    Args:
        builders: Name of a row -> what builds its step.
        batch: Images of a step.
        rounds: Turns of all rows.
        steps: Timed steps of a row in a turn.
        device: Where they compute.
        clock: ``wall``, or ``cpu`` for this process's own time.
    """
    rows = {name: Row(batch) for name in builders}
    read = time.process_time if clock == "cpu" else time.perf_counter
    for turn in range(rounds):
        for name, build in builders.items():
            torch.manual_seed(0)
            step = build()
            if turn == 0:
                with PeakMemory(device) as memory:
                    step()
                    step()  # the optimizer's moments are there from its start
                rows[name].peak_bytes = memory.bytes
            else:
                step()
            rows[name].times += [seconds_of(step, device, read) for _ in range(steps)]
            del step
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return rows


def where(device: torch.device) -> str:
    """Return what the figures were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def print_table(head: list[str], lines: list[list[str]]) -> None:
    """Print columns, the first to the left and the others to the right."""
    widths = [max(len(line[k]) for line in [head, *lines]) for k in range(len(head))]
    for line in [head, *lines]:
        first, *rest = (
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]))


def write_json(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write the figures to a file where one is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=2))
