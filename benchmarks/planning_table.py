"""What a pre-training takes on given accelerators: operations, memory, images/s and days.

    python benchmarks/planning_table.py [CONFIG ...] [--utilization 0.4] [--json FILE]

Operations are counted, not estimated: torch runs a whole step (all views, forward and
backward) on tensors that have shapes and no contents, and counts what its matrix products
and attention compute. Beside them stands the formula that ``--dry-run`` uses.
Memory is what ``--dry-run --amp`` predicts for the config's global batch with
``model.micro_batch="auto"`` on devices of that size.

Rates are an assumption made visible: peak rate of the device times ``--utilization``. What
your machine reaches says ``python tools/benchmark.py CONFIG``; with its images/s,
``--dry-run --images-per-s`` gives the days.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from mmengine.config import Config
from step_sides import count, make_views
from torch._subclasses.fake_tensor import FakeTensorMode

from msn_mm.engine.launch import load_config
from msn_mm.engine.micro_batch import build_on_meta
from msn_mm.utils.dry_run import Plan, epochs_of, make_plan

CONFIGS = ("msn_vits16", "msn_vitb16", "msn_vitb8", "msn_vitb4", "msn_vitl16", "msn_vitl7")
# Two images, since the head's batch norm has no use for one.
IMAGES = 2


@dataclass(frozen=True)
class Machine:
    """Devices to plan for.

    Attributes:
        name: as people call it.
        devices: how many.
        memory: of one, in GiB.
        peak: dense bfloat16 rate of one in TFLOP/s, by the maker's data sheet.
    """

    name: str
    devices: int
    memory: float
    peak: float


# Data sheets of NVIDIA: RTX 4090 (165 TFLOP/s with float32 sums), A100 SXM, H100 SXM.
MACHINES = (
    Machine("1 RTX 4090", 1, 24, 165),
    Machine("8 A100 40 GB", 8, 40, 312),
    Machine("8 H100 80 GB", 8, 80, 989),
)


@dataclass(frozen=True)
class Row:
    """One config on one machine; ``micro_batch`` is None for the whole batch at once."""

    config: str
    machine: str
    gflops_counted: float
    gflops_formula: float
    memory_gib: float
    micro_batch: int | None
    images_per_s: float
    days: float


def counted_flops(cfg: Config) -> float:
    """Return the operations of a training step an image, as torch counts them."""
    cfg = _whole(cfg)
    empty = build_on_meta(cfg)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = empty.to_empty(device="cpu").train()
        views = make_views(cfg, IMAGES, torch.device("cpu"))

        def step() -> None:
            model.parse_losses(model.loss(views))[0].backward()

        return count(step) / IMAGES


def plan_on(cfg: Config, machine: Machine) -> Plan:
    """Return the plan of a config on a machine's devices."""
    cfg = copy.deepcopy(cfg)
    cfg.model["micro_batch"] = "auto"
    return make_plan(cfg, machine.devices, amp=True, device_memory=machine.memory)


def rows_of(name: str, utilization: float) -> list[Row]:
    """Return a config's rows, one a machine."""
    cfg = load_config(name)
    counted, rows = counted_flops(cfg), []
    formula = make_plan(_whole(cfg)).flops
    for machine in MACHINES:
        plan = plan_on(cfg, machine)
        assert plan.memory is not None
        # In micro-batches the networks run forward once more: the time pays for it.
        work = counted * plan.flops / formula
        rate = machine.devices * machine.peak * 1e12 * utilization / work
        images = plan.images[0] or 0
        epochs = epochs_of(plan.cfg, images, plan.batch.global_batch) or 0.0
        rows.append(
            Row(
                name,
                machine.name,
                counted / 1e9,
                formula / 1e9,
                plan.memory.total / 2**30,
                _views_at_a_time(plan),
                rate,
                images * epochs / rate / 86400,
            )
        )
    return rows


def _whole(cfg: Config) -> Config:
    cfg = copy.deepcopy(cfg)
    cfg.model.pop("micro_batch", None)
    return cfg


def _views_at_a_time(plan: Plan) -> int | None:
    found = re.match(r"auto: (\d+) views", plan.micro_batch)
    return int(found[1]) if found else None


def _cell(row: Row) -> str:
    views = "whole" if row.micro_batch is None else f"{row.micro_batch:,}"
    days = f"{row.days:,.0f}" if row.days >= 10 else f"{row.days:.1f}"
    return f"{views}, {row.memory_gib:.0f} GiB, {row.images_per_s:,.0f}/s, {days} days"


def main(argv: Sequence[str] | None = None) -> None:
    """Count, plan and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="CONFIG")
    parser.add_argument(
        "--utilization", type=float, default=0.4, help="share of the peak rate that a step reaches"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    if not 0 < args.utilization <= 1:
        parser.error(f"--utilization must be in (0, 1], not {args.utilization:g}")

    rows = [row for name in args.configs for row in rows_of(name, args.utilization)]
    print("| Config | TFLOPs an image | " + " | ".join(machine.name for machine in MACHINES) + " |")
    print("|---" * (2 + len(MACHINES)) + "|")
    for name, group in groupby(rows, key=lambda row: row.config):
        cells = list(group)
        print(f"| `{Path(name).stem}` | {cells[0].gflops_counted / 1e3:.2f} | ", end="")
        print(" | ".join(_cell(row) for row in cells) + " |")
    ratios = [row.gflops_counted / row.gflops_formula for row in rows]
    print(f"counted / formula of --dry-run: {min(ratios):.4f} to {max(ratios):.4f}")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
