"""Which frozen encoder a command of ``msn-mm`` takes; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.checkpoint_options import AUTO, add_reading_options
from msn_mm.utils.cli import add_cfg_options
from msn_mm.utils.early_checks import check_config
from msn_mm.utils.protocol_options import NO_CHECKPOINT, checkpoint_of


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint`` and ``--config``."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PLACE",
        help="the encoder's weights: a file or address of any known format, or the directory of a "
        f"training (its newest checkpoint); {NO_CHECKPOINT}: those that --config builds",
    )
    parser.add_argument(
        "--config", help="the encoder's config, where a checkpoint does not say how it is built"
    )


def add_encoder_details(parser: argparse.ArgumentParser) -> None:
    """Add what is seldom needed: ``--from``, ``--arch`` and ``--cfg-options``."""
    add_reading_options(parser)
    add_cfg_options(parser)


def check_encoder(args: Any) -> str | None:
    """Look at what the options name, and return the checkpoint, ``None`` for the config's weights.

    Args:
        args: What :func:`add_encoder` and :func:`add_encoder_details` parse.

    Raises:
        UserError: For the first thing that cannot work, with its mend.
    """
    checkpoint = checkpoint_of(args.checkpoint)
    if args.config is not None:
        check_config(args.config)
        if args.format != AUTO or args.arch:
            raise UserError("--from and --arch read a checkpoint without a config; leave --config")
    elif args.cfg_options:
        raise UserError("--cfg-options change a config; give --config too")
    if checkpoint is None and args.config is None:
        raise UserError(f"--checkpoint {NO_CHECKPOINT} takes the config's weights: give --config")
    if checkpoint is not None:
        check_checkpoint(checkpoint, option="--checkpoint")
    return checkpoint


def read_encoder_of(args: Any, checkpoint: str | None) -> Any:
    """Read what :func:`check_encoder` has looked at.

    Returns:
        :class:`~msn_mm.few_labels.encoder.EncoderSource`.
    """
    from msn_mm.engine.launch import load_config
    from msn_mm.few_labels.encoder import read_encoder

    config = None if args.config is None else load_config(args.config, args.cfg_options)
    return read_encoder(checkpoint, config, args.format, dict(args.arch))
