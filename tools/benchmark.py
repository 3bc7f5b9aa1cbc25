"""What bounds a run of a config on this machine: ``python tools/benchmark.py CONFIG``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import not_negative, positive


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="benchmark.py",
        description="Time the input, the step and both of a training, on your data and machine; "
        "say which of them bounds the run, and what to change. Nothing is trained or saved.",
    )
    parser.add_argument("config", help="a config's path, or a shipped one's name: msn_vits16.py")
    add_out(parser, "work_dirs/<config name>/benchmark")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast, on GPU and CPU")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    parser.add_argument(
        "--workers", type=not_negative, metavar="N", help="data workers a process, not the config's"
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images a process in one pass, not the config's"
    )
    parser.add_argument(
        "--steps", type=positive, default=21, metavar="N", help="steps a measure (default: 21)"
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, out=args.out)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.bound_report import measuring_config, report
    from msn_mm.engine.launch import build_runner, default_work_dir, load_config, train

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out or default_work_dir(cfg, "benchmark"))
    cfg = measuring_config(cfg, args.steps, args.amp, args.workers, args.batch)
    runner = build_runner(cfg, launcher=args.launcher, work_dir=out, amp=args.amp)
    train(runner)
    if runner.rank == 0:
        settings = {"cfg_options": args.cfg_options, "steps": args.steps, "amp": args.amp}
        seconds = time.perf_counter() - started
        print(report(runner.train_loop.measured, out, args.config, settings, seconds))
    return 0


if __name__ == "__main__":
    run_tool(main)
