"""Write a classifier, encoder included, for another program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msn_mm.utils.checkpoint_files import check_checkpoint_file
from msn_mm.utils.early_checks import check_output_file
from msn_mm.utils.paths import user_path

HELP = "write a classifier, encoder included, for another program"
SUFFIXES = {"onnx": ".onnx"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("classifier", metavar="FILE", help="what msn-mm fit has written")
    parser.add_argument("--to", choices=tuple(SUFFIXES), required=True, help="the format")
    parser.add_argument(
        "--out", metavar="FILE", help="what to write (default: FILE with the format's ending)"
    )


def run(args: Any) -> int:
    """Write, and tell how to use it."""
    path = user_path(args.classifier, "FILE")
    check_checkpoint_file(path)
    suffix = SUFFIXES[args.to]
    out = str(path.with_suffix(suffix)) if args.out is None else args.out
    check_output_file(out, (suffix,), inputs={"FILE": args.classifier})
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.few_labels.onnx_file import OUTPUTS, write_onnx
    from msn_mm.few_labels.predictor import load_predictor

    destination = Path(out)
    notes = write_onnx(load_predictor(path, device="cpu"), destination)
    print(f"written: {destination}")
    for note in notes:
        print(f"note: {note}")
    print(f"outputs: {', '.join(OUTPUTS)}; classes and view lie in its metadata")
    return 0
