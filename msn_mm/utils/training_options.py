"""Command-line arguments that the tools which train share; nothing heavy is imported."""

from __future__ import annotations

import argparse

from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import not_negative


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume [PATH]``, ``--amp``, ``--compile``, ``--launcher`` and ``--seed``."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="PATH",
        help="go on from PATH, or from the newest whole checkpoint in the directory",
    )
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast, on GPU and CPU")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile for the blocks of a ViT: the first step takes longer, others less",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    parser.add_argument("--seed", type=not_negative, help="overrides the config's seed")


def check_resume(resume: bool | str) -> None:
    """Refuse a checkpoint to go on from that is not there.

    Args:
        resume: What ``--resume`` parses to.

    Raises:
        UserError: Naming the path.
    """
    if isinstance(resume, str) and not user_path(resume, "--resume").exists():
        raise UserError(f"--resume: no checkpoint at '{resume}'; check the path")
