"""Train an RCDM on images and a frozen encoder's representations of them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.cli import add_cfg_options, add_out
from msn_mm.utils.early_checks import check_config, check_paths
from msn_mm.utils.protocol_options import NO_CHECKPOINT, checkpoint_of
from msn_mm.utils.training_options import add_run_options, check_resume

HELP = "train an RCDM on a frozen encoder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("config", help="a config's path, or a shipped one's name: rcdm_128.py")
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="CHECKPOINT",
        help="the encoder's weights: a file, a directory or an address of any known format; "
        f"'{NO_CHECKPOINT}' for those that its config builds",
    )
    parser.add_argument(
        "--backbone-config",
        metavar="CONFIG",
        help="the encoder's config, any of the zoo's (default: the one that CONFIG names)",
    )
    add_out(parser, "work_dirs/<config name>")
    add_run_options(parser)
    add_cfg_options(parser)


def run(args: Any) -> int:
    """Train, and tell what was learnt."""
    check_paths(args.config, out=args.out)
    check_resume(args.resume)
    backbone = checkpoint_of(args.backbone)
    if backbone is not None:
        check_checkpoint(backbone, f"--backbone: give a file, or '{NO_CHECKPOINT}'")
    if args.backbone_config is not None:
        check_config(args.backbone_config)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.diffusion.training import train_rcdm
    from msn_mm.engine.stopped import TrainingStopped
    from msn_mm.engine.summary import report_training

    # Libraries that a config brings in ask the environment for their local rank.
    os.environ.setdefault("LOCAL_RANK", "0")
    started = time.perf_counter()
    try:
        runner = train_rcdm(
            args.config,
            backbone,
            args.backbone_config,
            args.cfg_options,
            launcher=args.launcher,
            work_dir=args.out,
            resume=args.resume,
            amp=args.amp,
            seed=args.seed,
        )
    except TrainingStopped as stop:
        if int(os.environ.get("RANK", "0")) == 0:
            print(stop)
        return stop.status
    if runner.rank == 0:
        seconds = time.perf_counter() - started
        source = runner.cfg.model.encoder.checkpoint
        told = {"backbone": source, "backbone_config": args.backbone_config}
        print(
            report_training(
                runner, Path(args.config), args.cfg_options, seconds, "rcdm train", told
            )
        )
    return 0
