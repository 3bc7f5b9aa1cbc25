"""Checkpoints for other libraries: ``python tools/convert.py SRC DST --to hf``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.checkpoint_options import add_reading_options, check_destination, sha256
from msn_mm.utils.cli import ArgumentParser, run_tool


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="convert.py",
        description="Read a checkpoint of any known format and write it for another library.",
    )
    parser.add_argument(
        "source",
        help="a file, the directory of a training (its newest checkpoint) or of Hugging Face, or "
        "an http(s) address",
    )
    parser.add_argument("destination", nargs="?", help="where to; left out: only tell what it is")
    parser.add_argument("--to", metavar="LIBRARY", help="msn_mm, official, hf, timm, onnx, ...")
    add_reading_options(parser)
    parser.add_argument("--heads", type=int, help="attention heads, where weights do not tell")
    parser.add_argument("--image-size", type=int, help="pixels that the positions belong to")
    parser.add_argument(
        "--sha256", type=sha256, help="hash that the file must have, or the beginning of one"
    )
    args = parser.parse_args(argv)
    if (args.destination is None) != (args.to is None):
        parser.error("give DST and --to together")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_checkpoint(args.source)
    if args.destination is not None:
        check_destination(args.destination, args.to)
    # Heavy imports come after the command line, so that --help answers at once.
    from msn_mm.convert.format import convert, load_trunk
    from msn_mm.convert.report import reading_report, writing_report
    from msn_mm.convert.source import read_source
    from msn_mm.convert.writer import write
    from msn_mm.engine.checkpointing import checkpoint_file

    told = {"heads": args.heads, "image_size": args.image_size}
    arch = dict(args.arch) | {name: value for name, value in told.items() if value is not None}
    source, passed_over = checkpoint_file(args.source)
    for line in passed_over:
        print(f"note: {line}")
    converted = convert(read_source(source, args.sha256), args.format, arch)
    load_trunk(converted, source)  # nothing that does not fit is written
    print(reading_report(converted, source))
    if args.destination is not None:
        print(writing_report(write(converted, args.destination, args.to)))
    return 0


if __name__ == "__main__":
    run_tool(main)
