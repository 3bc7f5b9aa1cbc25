"""Train and compare a list of configs and seeds: ``python tools/sweep.py SWEEP_FILE``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import random_seed

HERE = "local"


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="sweep.py",
        description="Train every run of a sweep file with every seed, go on with what is "
        "unfinished, measure each frozen encoder by one low-shot and k-NN protocol and print one "
        "table with raw pixels and the untrained encoders.",
    )
    parser.add_argument("sweep", metavar="SWEEP_FILE", help="a file of configs/sweeps, or yours")
    add_out(parser, "work_dirs/sweeps/<name of the sweep file>")
    parser.add_argument(
        "--seeds", type=random_seed, nargs="+", metavar="N", help="default: the file's"
    )
    parser.add_argument(
        "--jobs",
        default=HERE,
        metavar=f"{HERE}|slurm:PARTITION",
        help="one after the other in this place (default), or batch jobs of Slurm: the first call "
        "submits, a later one gathers",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="train these runs alone; the others are shown where they are finished",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print runs, budgets and states; train nothing"
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    kind, colon, args.partition = args.jobs.partition(":")
    if args.jobs != HERE and not (kind == "slurm" and colon and args.partition):
        raise UserError(f"--jobs is '{args.jobs}'; give {HERE} or slurm:PARTITION")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status: 1 when a run failed."""
    args = parse_args(argv)
    check_paths(args.sweep, out=args.out)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.stopped import TrainingStopped
    from msn_mm.sweeps.budget import budget_of, budget_table, budget_warning
    from msn_mm.sweeps.report import report_sweep
    from msn_mm.sweeps.rounds import Sweeping, states
    from msn_mm.sweeps.sweep_file import read_sweep

    started = time.perf_counter()
    sweep = read_sweep(args.sweep, args.seeds, args.cfg_options, args.only)
    out = Path(args.out or Path("work_dirs", "sweeps", Path(args.sweep).stem))
    budgets = {run.label: budget_of(run) for run in sweep.runs}
    print(f"{sweep.title}: {len(sweep.runs)} runs x {len(sweep.seeds)} seeds, in {out}\n")
    print(budget_table(sweep.runs, budgets))
    warning = budget_warning(budgets)
    if warning is not None:
        print(f"\n{warning}")
    print(flush=True)
    if args.dry_run:
        print(states(sweep, out))
        return 0
    sweeping = Sweeping(sweep, out, Path(__file__).resolve().parent, args.partition or None)
    try:
        with sweeping:
            sweeping.run()
    except TrainingStopped as stop:
        print(stop)
        return stop.status
    print()
    print(
        report_sweep(
            sweeping,
            {label: vars(one) for label, one in budgets.items()},
            args.sweep,
            args.cfg_options,
            time.perf_counter() - started,
        )
    )
    return 1 if sweeping.failures else 0


if __name__ == "__main__":
    run_tool(main)
