"""How a checkpoint is to be read, on a command line; nothing heavy is imported."""

from __future__ import annotations

import argparse
import re
from typing import Any

from msn_mm.errors import UserError, did_you_mean
from msn_mm.utils.cli import parse_value
from msn_mm.utils.early_checks import check_output
from msn_mm.utils.paths import user_path

AUTO = "auto"
# The registries of formats and writers, which are heavy to ask; a test compares.
FORMAT_NAMES = (
    *("dino", "dinov2", "hf_dinov2", "hf_mae", "hf_msn", "hf_vit", "ibot", "lightly_resnet"),
    *("mae", "mmpretrain_resnet", "mmpretrain_vit", "mocov3_resnet", "mocov3_vit", "msn"),
    *("msn_mm", "solo_resnet", "timm", "torchvision_resnet", "vissl_resnet"),
)
# What the file of each ends in; nothing is a directory's.
WRITER_SUFFIXES = {
    "hf": "",
    "msn_mm": ".safetensors",
    "official": ".pth.tar",
    "onnx": ".onnx",
    "timm": ".safetensors",
    "torchvision": ".safetensors",
}


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--from FORMAT`` (``format``) and ``--arch KEY=VALUE ...`` (``arch``, pairs)."""
    parser.add_argument(
        "--from",
        dest="format",
        default=AUTO,
        type=_format,
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


def check_destination(destination: str, to: str) -> None:
    """Refuse a destination that a writer cannot write, before a checkpoint is read.

    Raises:
        UserError: There is no such writer, or no such file can be made.
    """
    if to not in WRITER_SUFFIXES:
        raise UserError(
            f"--to: no checkpoint can be written as '{to}'; there are "
            f"{', '.join(WRITER_SUFFIXES)}.{did_you_mean(to, WRITER_SUFFIXES)}"
        )
    path, suffix = user_path(destination, "DST"), WRITER_SUFFIXES[to]
    if suffix and (path.is_dir() or not path.name.endswith(suffix)):
        raise UserError(f"'{destination}' must be a file that ends in {suffix} for '{to}'")
    if not suffix and path.is_file():
        raise UserError(f"'{destination}' is a file; '{to}' is written to a directory")
    check_output(str(path.parent), "DST, below")


def sha256(text: str) -> str:
    """Return a hash's beginning; refuse what is none."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,64}", text):
        raise argparse.ArgumentTypeError(f"takes up to 64 hexadecimal digits, not '{text:.70}'")
    return text.lower()


def _format(name: str) -> str:
    if name not in (AUTO, *FORMAT_NAMES):
        raise argparse.ArgumentTypeError(
            f"no checkpoint format '{name}'; there are {', '.join(FORMAT_NAMES)}"
        )
    return name


def _setting(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"takes key=value, not '{word}'")
    return key, parse_value(text)
