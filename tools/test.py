"""Measure a checkpoint on a config's labelled data: ``python tools/test.py CONFIG CHECKPOINT``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="test.py",
        description="Low-shot and k-NN accuracy of a checkpoint's frozen target encoder; accuracy "
        "of a fine-tuned classifier, and of the heads of a linear evaluation.",
    )
    parser.add_argument("config", help="the config that the checkpoint was trained with")
    parser.add_argument(
        "checkpoint", help="a checkpoint that tools/train.py wrote, or the directory (its newest)"
    )
    add_out(parser, "work_dirs/<config name>/test")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, args.checkpoint, args.out)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.distributed import collective_timeout, init_distributed
    from msn_mm.engine.launch import build_runner, default_work_dir, load_config
    from msn_mm.evaluation.baselines import accuracy_table
    from msn_mm.evaluation.checkpoint import load_weights, read_weights, settled_checkpoint
    from msn_mm.evaluation.finetuning import classifier_test, is_classifier, is_linear
    from msn_mm.evaluation.linear_report import summary
    from msn_mm.evaluation.protocol import bare_model, evaluation_only
    from msn_mm.utils.results import write_results

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out or default_work_dir(cfg, "test"))
    linear = is_linear(cfg)
    whole = linear or is_classifier(cfg)
    test_cfg = classifier_test(cfg) if whole else evaluation_only(cfg)
    init_distributed(args.launcher, collective_timeout(cfg))
    checkpoint = settled_checkpoint(args.checkpoint)
    assert checkpoint is not None
    state = read_weights(checkpoint)
    runner = build_runner(test_cfg, launcher=args.launcher, work_dir=out)
    load_weights(bare_model(runner.model), state, checkpoint)
    scores = runner.test()
    if runner.rank == 0:
        metric = runner.test_evaluator.metrics[0]
        metrics = metric.last if not whole else summary(metric.last) if linear else scores
        write_results(
            out / "results.json",
            tool="test",
            config=args.config,
            checkpoint=checkpoint,
            settings={**({} if whole else metric.settings()), "cfg_options": args.cfg_options},
            metrics=metrics,
            seconds=time.perf_counter() - started,
        )
        print()
        if whole:
            print("\n".join(f"{name}  {value:.2f}" for name, value in scores.items()))
        else:
            print(accuracy_table({Path(checkpoint).name: metrics}))
        print(f"\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
