"""Watch MSN learn real images, then see whether it paid: ``python tools/demo.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import positive

DEFAULT_OUT = "work_dirs/demo"


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="demo.py",
        description="Pre-train MSN on handwritten digits without labels, then compare its frozen "
        "features with raw pixels and with the untrained encoder.",
    )
    parser.add_argument(
        "--config", default="configs/msn_digits.py", help="config to train (default: %(default)s)"
    )
    parser.add_argument(
        "--splits", type=positive, default=20, help="label splits a column (default: %(default)s)"
    )
    add_out(parser, DEFAULT_OUT)
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.splits < 2:
        raise UserError(f"--splits is {args.splits}; a standard deviation needs at least 2")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, out=args.out)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import build_runner, load_config, train
    from msn_mm.evaluation.baselines import compare_with_baselines
    from msn_mm.evaluation.data import labelled_data
    from msn_mm.evaluation.demo_report import announce, report
    from msn_mm.evaluation.protocol import build_metric, evaluation_parts

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    loader_cfg, metric_cfg = evaluation_parts(cfg)
    out = Path(args.out or DEFAULT_OUT)
    runner = build_runner(cfg, work_dir=out)
    metric = build_metric(metric_cfg, splits=args.splits)
    train_seconds = 0.0

    def timed_training(baselines: dict[str, Any]) -> None:
        nonlocal train_seconds
        print(announce(runner, baselines), flush=True)
        begun = time.perf_counter()
        train(runner)
        train_seconds = time.perf_counter() - begun

    measured = compare_with_baselines(
        runner.model,
        labelled_data(cfg, "val"),
        metric,
        timed_training,
        batch_size=loader_cfg.get("batch_size", 64),
        workers=loader_cfg.get("num_workers", 0),
    )
    settings = {
        **metric.settings(),
        "cfg_options": args.cfg_options,
        "train_seed": runner.seed,
        "epochs": runner.epoch,
        "train_seconds": round(train_seconds, 1),
    }
    seconds = time.perf_counter() - started
    print(report(runner, out, args.config, measured, settings, seconds))
    return 0


if __name__ == "__main__":
    run_tool(main)
