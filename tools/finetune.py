"""Fine-tune a checkpoint end to end on labels: ``python tools/finetune.py CONFIG CHECKPOINT``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.training_options import add_training_options, check_resume, model_options


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="finetune.py",
        description="Fine-tune all of an encoder under a linear head, as in appendix C.4 "
        "(configs/finetune_vitb16.py) or C.5 (configs/finetune_vitb16_cifar10.py, ...) of the "
        "paper, and report its validation accuracy.",
    )
    parser.add_argument("config", help="a config of a classifier: configs/finetune_*.py")
    parser.add_argument(
        "checkpoint",
        help="what to start from, in any known format; of a training's directory its newest",
    )
    add_out(parser, "work_dirs/<config name>")
    add_training_options(parser)
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, args.checkpoint, args.out)
    check_resume(args.resume)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import build_runner, load_config, train
    from msn_mm.engine.optim.layer_decay import layer_rates
    from msn_mm.engine.stopped import TrainingStopped
    from msn_mm.engine.summary import report_training
    from msn_mm.evaluation.finetuning import check_classifier

    options = {**args.cfg_options, **model_options(args)}
    cfg = load_config(args.config, options)
    check_classifier(cfg)
    # Libraries that a config brings in ask the environment for their local rank.
    os.environ.setdefault("LOCAL_RANK", "0")
    started = time.perf_counter()
    runner = build_runner(
        cfg,
        launcher=args.launcher,
        work_dir=args.out,
        resume=args.resume,
        amp=args.amp,
        compile=args.compile,
        seed=args.seed,
        load_from=None if args.resume else args.checkpoint,
    )
    try:
        train(runner)
    except TrainingStopped as stop:
        if runner.rank == 0:
            print(stop)
        return stop.status
    if runner.rank == 0:
        # A resumed training is not told which file of a directory its first start took.
        source = args.checkpoint if args.resume else runner.cfg.load_from
        settings = {"started_from": source, "layers": layer_rates(runner.optim_wrapper)}
        seconds = time.perf_counter() - started
        print(
            report_training(
                runner,
                Path(args.config),
                options,
                seconds,
                tool="finetune",
                settings=settings,
            )
        )
    return 0


if __name__ == "__main__":
    run_tool(main)
