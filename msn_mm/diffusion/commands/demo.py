"""On handwritten digits, from nothing to the picture: encoders, RCDMs, numbers, a grid."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from msn_mm.diffusion.commands.options import PAPER_RATIOS
from msn_mm.diffusion.names import SAMPLERS
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.cli import add_cfg_options, add_out
from msn_mm.utils.early_checks import check_config, check_paths
from msn_mm.utils.protocol_options import NO_CHECKPOINT, positive, random_seed

HELP = "all of it on handwritten digits, with the encoder of make demo"
DEFAULT_OUT = "work_dirs/rcdm_demo"
CONFIG = "configs/rcdm_digits.py"
ENCODER = "configs/msn_digits.py"
# The quickest of the zoo's digits to train.
COMPARED = "configs/mae_digits.py"
ENCODER_PLACE = "work_dirs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--encoder",
        default=ENCODER_PLACE,
        metavar="PLACE",
        help="the MSN encoder: a checkpoint, or the directory of its training, which is trained "
        "first where it has none (default: %(default)s)",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[COMPARED],
        metavar="WORD",
        help="the other encoder: CONFIG CHECKPOINT, or CONFIG alone to pre-train it first; "
        f"CHECKPOINT '{NO_CHECKPOINT}' is an untrained one (default: {COMPARED})",
    )
    parser.add_argument(
        "--images", type=positive, default=100, metavar="N", help="measured (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=positive, default=25, metavar="N", help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=random_seed, default=0, help="of masks and noise (default: %(default)s)"
    )
    add_out(parser, DEFAULT_OUT)
    add_cfg_options(parser)


def run(args: Any) -> int:
    """Train what is missing, sample, measure, draw and tell."""
    check_paths(out=args.out)
    if len(args.compare) > 2:
        raise UserError(f"--compare takes CONFIG [CHECKPOINT], not '{' '.join(args.compare)}'")
    check_config(args.compare[0])
    for place in args.compare[1:]:
        if place != NO_CHECKPOINT:
            check_checkpoint(place)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.diffusion.demo import Demo

    started = time.perf_counter()
    settings = argparse.Namespace(
        mask_ratio=PAPER_RATIOS,
        max_images=args.images,
        samples=2,
        sampler=SAMPLERS[0],
        steps=args.steps,
        seed=args.seed,
        batch_size=64,
        amp=False,
    )
    demo = Demo(CONFIG, Path(args.out or DEFAULT_OUT), args.cfg_options, settings)
    encoders = {
        "MSN": (ENCODER, demo.encoder(ENCODER, Path(args.encoder))),
        **demo.compared(args.compare),
    }
    print(demo.run(encoders, started))
    return 0
