"""How a checkpoint is to be read, on a command line; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

from msn_mm.utils.cli import parse_value

AUTO = "auto"


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--from FORMAT`` (``format``) and ``--arch KEY=VALUE ...`` (``arch``, pairs)."""
    parser.add_argument(
        "--from",
        dest="format",
        default=AUTO,
        metavar="FORMAT",
        help="format of the source (default: recognised from its keys)",
    )
    parser.add_argument(
        "--arch",
        nargs="+",
        action="extend",
        default=[],
        type=_setting,
        metavar="KEY=VALUE",
        help="what weights do not tell: heads=6 network=online resampling=dino epsilon=1e-5 "
        "activation=quick_gelu of a ViT, stem=small padding=same of a ResNet",
    )


def _setting(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"takes key=value, not '{word}'")
    return key, parse_value(text)
