"""Arguments that the commands share; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.diffusion.names import SAMPLERS
from msn_mm.errors import UserError
from msn_mm.utils.cli import add_cfg_options, add_out
from msn_mm.utils.protocol_options import add_seed, mask_ratio_or_0, not_negative, positive

# Figures 4 to 8 of the paper.
PAPER_RATIOS = [0.0, 0.5, 0.7, 0.8, 0.9]


def add_sampling_options(parser: argparse.ArgumentParser, samples: int, what: str) -> None:
    """Add how samples are drawn, where they are written, and ``--cfg-options``.

    Args:
        parser: Of a command.
        samples: Default of ``--samples``.
        what: Default directory, for the help of ``--out``.
    """
    parser.add_argument(
        "--samples",
        type=positive,
        default=samples,
        metavar="M",
        help="samples of each representation (default: %(default)s)",
    )
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default=SAMPLERS[0],
        help="ddpm is ancestral, with the learned variance; ddim and dpm (DPM-Solver++) are "
        "deterministic once the first noise is drawn (default: %(default)s)",
    )
    group.add_argument(
        "--steps", type=positive, default=50, metavar="N", help="default: %(default)s"
    )
    add_seed(group, "masks and noise")
    group.add_argument(
        "--batch-size",
        type=positive,
        default=64,
        metavar="B",
        help="samples at a time, on which no sample depends (default: %(default)s)",
    )
    group.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    add_out(parser, what)
    add_cfg_options(parser)


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Add ``--mask-ratio R ...``."""
    parser.add_argument(
        "--mask-ratio",
        type=mask_ratio_or_0,
        nargs="+",
        default=PAPER_RATIOS,
        metavar="R",
        help="shares of patches that the encoder does not see, 0 for whole images (default: "
        "%(default)s)",
    )


def add_max_images(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--max-images N``, 0 for all."""
    parser.add_argument(
        "--max-images",
        type=not_negative,
        default=default,
        metavar="N",
        help="so many images, drawn at random; 0 for all (default: %(default)s)",
    )


def check_one_backbone(args: Any) -> None:
    """Refuse ``--backbone`` beside several rows.

    Raises:
        UserError: There are several.
    """
    if args.backbone is not None and len(args.checkpoints) + len(args.row) > 1:
        raise UserError("--backbone conditions one RCDM; give one checkpoint and no --row with it")
