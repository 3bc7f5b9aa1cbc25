"""Command-line arguments of partial fine-tuning; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.protocol_options import above_0, fraction, not_negative, positive, probability


def add_partial_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how the last block is trained."""
    group = parser.add_argument_group("training of the last block")
    group.add_argument(
        "--lrs",
        type=above_0,
        nargs="+",
        default=[3e-4, 1e-3, 3e-3],
        metavar="X",
        help="learning rates to choose from (default: 0.0003 0.001 0.003)",
    )
    group.add_argument(
        "--epochs",
        type=positive,
        nargs="+",
        default=[30, 100],
        metavar="N",
        help="lengths to choose from, in passes over the labelled images (default: 30 100)",
    )
    group.add_argument(
        "--folds",
        type=positive,
        default=5,
        metavar="N",
        help="most folds of the cross-validation that chooses (default: %(default)s)",
    )
    group.add_argument(
        "--global-batch",
        type=positive,
        default=256,
        metavar="B",
        help="most images of an optimizer step (default: %(default)s; always a power of two of at "
        "most a quarter of the labelled images)",
    )
    group.add_argument(
        "--views",
        type=not_negative,
        default=8,
        metavar="V",
        help="random crops of each labelled image, run through the frozen blocks once and shown "
        "in turn; 0: the central view alone (default: %(default)s)",
    )
    group.add_argument(
        "--scale",
        type=fraction,
        nargs=2,
        default=[0.08, 1.0],
        metavar=("LOW", "HIGH"),
        help="share of the image that a random crop covers (default: 0.08 1)",
    )
    group.add_argument(
        "--flip",
        type=probability,
        default=0.5,
        metavar="P",
        help="probability of the mirror (default: %(default)s)",
    )
    group.add_argument(
        "--memory",
        type=above_0,
        default=4.0,
        metavar="GIB",
        help="most memory for the tokens of the frozen blocks; more of them lie in a file below "
        "--out while the tool runs (default: %(default)g)",
    )


def check_partial_options(args: Any) -> None:
    """Refuse numbers that do not fit each other.

    Raises:
        UserError: Naming the option.
    """
    if args.scale[0] > args.scale[1]:
        raise UserError("--scale takes the lower number first, e.g. --scale 0.08 1")
    if args.folds < 2:
        raise UserError("--folds 1 holds nothing out; ask for at least 2")
