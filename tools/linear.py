"""Linear evaluation (appendix C.3): ``python tools/linear.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.protocol_options import (
    above_0,
    add_rows,
    add_seed,
    check_rows,
    default_workers,
    feature_name,
    fraction,
    mask_ratio,
    not_negative,
    positive,
    probability,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="linear.py",
        description="Linear classifiers on a frozen encoder, by SGD on random crops and flips as "
        "in appendix C.3 of the paper: a grid of learning rates and features in one pass. Several "
        "checkpoints are trained one after the other and give one table. CONFIG may also be that "
        "of a linear evaluation.",
    )
    add_rows(parser)
    heads = parser.add_argument_group("heads")
    heads.add_argument(
        "--features",
        type=feature_name,
        nargs="+",
        metavar="F",
        help="CLS tokens of the last blocks, and the mean of the patch tokens (default: cls1 cls4 "
        "cls1+avg cls4+avg)",
    )
    heads.add_argument(
        "--lr-scales",
        type=above_0,
        nargs="+",
        metavar="X",
        help="learning rates, as factors on 6.4 (default: 0.1 0.3 1 3 10)",
    )
    heads.add_argument(
        "--layer-norm",
        choices=("without", "with", "both"),
        help="a layer norm before the L2 normalisation, as in the released code; the heads of "
        "the paper and of the released code are always there (default: without)",
    )
    heads.add_argument(
        "--holdout",
        type=mask_ratio,
        default=0.0,
        metavar="R",
        help="choose the best head on this share of the training images, held out (default: on "
        "the evaluation images, which flatters it)",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive, metavar="N", help="default: 100")
    training.add_argument(
        "--global-batch",
        type=positive,
        metavar="B",
        help="images of a step over all processes; the learning rate follows it (default: 16384, "
        "a power of two of at most a quarter of fewer images)",
    )
    training.add_argument(
        "--batch-size",
        type=positive,
        default=256,
        metavar="B",
        help="most images of a forward pass on a process (default: %(default)s)",
    )
    training.add_argument(
        "--scale",
        type=fraction,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="share of the image that a random crop covers (default: 0.08 1)",
    )
    training.add_argument(
        "--flip", type=probability, metavar="P", help="probability of the mirror (default: 0.5)"
    )
    training.add_argument(
        "--amp",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16 (default: on a GPU)",
    )
    training.add_argument(
        "--workers",
        type=not_negative,
        default=default_workers(),
        metavar="W",
        help="data workers of each process (default: %(default)s)",
    )
    training.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in --out"
    )
    training.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="default: pytorch when torchrun started the tool",
    )
    add_seed(training, "crops, order and first weights")
    add_out(parser, "work_dirs/<config name>/linear")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.scale and args.scale[0] > args.scale[1]:
        raise UserError("--scale takes the lower number first, e.g. --scale 0.08 1")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.distributed import collective_timeout, decided_by_first, init_distributed
    from msn_mm.engine.launch import build_runner, default_work_dir, load_config, train
    from msn_mm.engine.stopped import TrainingStopped
    from msn_mm.evaluation.linear_recipe import LinearOptions, linear_config
    from msn_mm.evaluation.linear_report import report_linear, report_rows
    from msn_mm.evaluation.rows import read_rows
    from msn_mm.utils.results import output_directory

    started = time.perf_counter()
    launcher = args.launcher or ("pytorch" if "TORCHELASTIC_RUN_ID" in os.environ else "none")
    timeout = collective_timeout(load_config(args.config, args.cfg_options))
    world = init_distributed(launcher, timeout)
    rows = read_rows(args)
    first = rows[0].cfg
    norms = {"without": [False], "with": [True], "both": [False, True], None: None}
    options = LinearOptions(
        epochs=args.epochs,
        global_batch=args.global_batch,
        pass_batch=args.batch_size,
        features=args.features,
        lr_scales=args.lr_scales,
        layer_norms=norms[args.layer_norm],
        holdout=args.holdout,
        scale=args.scale,
        flip=args.flip,
        amp=args.amp,
        workers=args.workers,
    )
    out = output_directory(args.out or default_work_dir(first, "linear"))
    # What does not fit is told before the first row trains.
    configs = [
        linear_config(
            row.config,
            row.checkpoint,
            args.cfg_options if row.cfg is first else None,
            options,
            world.size,
            None if row.cfg is first else first,
        )
        for row in rows
    ]
    reports = []
    for number, (row, cfg) in enumerate(zip(rows, configs, strict=True), start=1):
        place = row_directory(Path(out), row.name, number) if len(rows) > 1 else Path(out)
        # Of several rows, the later ones may not have begun.
        has_begun = len(rows) == 1 or decided_by_first(partial(has_checkpoint, place))
        row_started = time.perf_counter()
        runner = build_runner(
            cfg,
            launcher=launcher,
            work_dir=place,
            resume=args.resume and has_begun,
            seed=args.seed,
        )
        try:
            train(runner)
        except TrainingStopped as stop:
            if runner.rank == 0:
                print(stop)
            return stop.status
        report = report_linear(runner, place, row, args, time.perf_counter() - row_started)
        if report is not None:
            reports.append(report)
            heading = f"{row.name}\n" if len(rows) > 1 else ""
            print(f"\n{heading}{report['table']}\nresults: {place / 'results.json'}", flush=True)
    if len(rows) > 1 and reports:
        table = report_rows(rows, reports, Path(out), args, time.perf_counter() - started)
        print(f"\n{table}\nresults: {Path(out) / 'results.json'}")
    return 0


def has_checkpoint(place: Path) -> bool:
    """Whether a training in this directory has left something to go on from."""
    return any(place.glob("*.pth"))


def row_directory(out: Path, name: str, number: int) -> Path:
    """Return where one of several rows is trained; its name may be a path."""
    return out / f"{number}_{re.sub(r'[^A-Za-z0-9.]+', '_', name).strip('_.')}"


if __name__ == "__main__":
    run_tool(main)
