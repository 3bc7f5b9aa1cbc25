"""Command-line arguments that the tools which train share; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import positive, random_seed


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add :func:`add_run_options`, and switches of a training that encodes views."""
    add_run_options(parser)
    parser.add_argument(
        "--micro-batch",
        type=_micro_batch,
        metavar="N|auto",
        help="a network encodes at most N views at once (the config's model.micro_batch): the "
        "same training in less memory; auto: as many as are predicted to fit",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile for the blocks of a ViT: the first step takes longer, others less",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume [PATH]`` and the switches of any training."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="PATH",
        help="go on from PATH, or from the newest whole checkpoint in the directory",
    )
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast, on GPU and CPU")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    parser.add_argument("--seed", type=random_seed, help="overrides the config's seed")


def model_options(args: Any) -> dict[str, Any]:
    """Return what the options of :func:`add_training_options` set in a config, by dotted key."""
    return {} if args.micro_batch is None else {"model.micro_batch": args.micro_batch}


def _micro_batch(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return positive(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a whole number of views of at least 1 nor 'auto'"
        ) from None


def check_resume(resume: bool | str) -> None:
    """Refuse a checkpoint to go on from that is not there.

    Args:
        resume: What ``--resume`` parses to.

    Raises:
        UserError: Naming the path.
    """
    if isinstance(resume, str) and not user_path(resume, "--resume").exists():
        raise UserError(f"--resume: no checkpoint at '{resume}'; check the path")
