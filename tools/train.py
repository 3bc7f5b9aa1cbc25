"""Pre-train by a config: ``python tools/train.py CONFIG``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.checkpoint_options import add_reading_options
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import positive
from msn_mm.utils.training_options import add_training_options, check_resume, model_options


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(prog="train.py", description="Pre-train by a config.")
    parser.add_argument("config", help="a config's path, or a shipped one's name: msn_vits16.py")
    parser.add_argument(
        "--work-dir", metavar="DIR", help="the same as --out, by the name MMEngine's users know"
    )
    add_out(parser, "work_dirs/<config name>")
    add_training_options(parser)
    parser.add_argument(
        "--load-from",
        metavar="SRC",
        help="start from a checkpoint of any known format: a file, a directory (of a training its "
        "newest) or an address",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--deterministic", action="store_true", help="deterministic algorithms, slower on a GPU"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved config, parameters, tokens, FLOPs, memory and days; train nothing",
    )
    parser.add_argument(
        "--images-per-s",
        type=float,
        metavar="R",
        help="with --dry-run: predict the days at R images a second over all processes",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="with --dry-run: the number of processes to plan for",
    )
    parser.add_argument(
        "--device-memory",
        type=float,
        metavar="GIB",
        help="with --dry-run: what --micro-batch auto may count on (default: what is free here)",
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, out=args.out or args.work_dir)
    check_resume(args.resume)
    if args.load_from is not None:
        check_checkpoint(args.load_from)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import build_runner, load_config, train
    from msn_mm.engine.parts_check import check_train_folder
    from msn_mm.engine.stopped import TrainingStopped
    from msn_mm.engine.summary import report_training

    options = {**args.cfg_options, **model_options(args)}
    cfg = load_config(args.config, options)
    if args.dry_run:
        from msn_mm.engine.run_parts import use_compile
        from msn_mm.utils.dry_run import dry_run

        if args.compile:
            use_compile(cfg)
        print(dry_run(cfg, args.processes, args.images_per_s, args.amp, args.device_memory))
        return 0
    # Libraries that a config brings in ask the environment for their local rank.
    os.environ.setdefault("LOCAL_RANK", "0")
    started = time.perf_counter()
    check_train_folder(cfg)
    runner = build_runner(
        cfg,
        launcher=args.launcher,
        work_dir=args.out or args.work_dir,
        resume=args.resume,
        amp=args.amp,
        compile=args.compile,
        seed=args.seed,
        deterministic=args.deterministic,
        load_from=args.load_from,
        load_format=args.format,
        load_arch=dict(args.arch),
    )
    try:
        train(runner)
    except TrainingStopped as stop:
        if runner.rank == 0:
            print(stop)
        return stop.status
    if runner.rank == 0:
        seconds = time.perf_counter() - started
        print(report_training(runner, Path(args.config), options, seconds))
    return 0


if __name__ == "__main__":
    run_tool(main)
