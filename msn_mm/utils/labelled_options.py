"""Command-line arguments that name the labelled images of a low-shot protocol."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.protocol_options import add_splits, fraction, positive


def add_labelled_images(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--images-per-class``, ``--fraction``, ``--subset-file``, ``--splits``, ``--seed``.

    Args:
        parser: The parser.
        what: What else than the splits the seed draws, for its help.
    """
    labels = parser.add_argument_group("labelled images")
    labels.add_argument(
        "--images-per-class",
        type=positive,
        nargs="+",
        default=None,
        metavar="N",
        help="labelled images a class (default: 1 2 5 when nothing else is asked for)",
    )
    labels.add_argument(
        "--fraction",
        type=fraction,
        nargs="+",
        default=[],
        metavar="F",
        help="share of every class's images, e.g. 0.01 for 1 %%",
    )
    labels.add_argument(
        "--subset-file",
        nargs="+",
        default=[],
        metavar="FILE",
        help="the labelled images instead, one file name a line; each file is one split",
    )
    add_splits(labels, what)


def settle_labelled_images(args: Any) -> None:
    """Fill in the numbers of labelled images where none are asked for.

    Raises:
        UserError: Files and numbers were given together.
    """
    given = [args.images_per_class is not None, bool(args.fraction), bool(args.subset_file)]
    if args.subset_file and sum(given) > 1:
        raise UserError(
            "--subset-file names the labelled images; leave out --images-per-class and --fraction"
        )
    if not any(given):
        args.images_per_class = [1, 2, 5]
