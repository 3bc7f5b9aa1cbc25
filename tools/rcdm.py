"""See what a representation knows (RCDM): ``python tools/rcdm.py train|sample|... CONFIG ...``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msn_mm.diffusion.commands import demo, interpolate, recognise, sample, train
from msn_mm.utils.cli import ArgumentParser, run_tool
from msn_mm.utils.subcommands import add_commands

COMMANDS: dict[str, Any] = {
    "train": train,
    "sample": sample,
    "interpolate": interpolate,
    "recognise": recognise,
    "demo": demo,
}


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="rcdm.py",
        description="A diffusion model that draws images from a frozen encoder's representation "
        "(arXiv 2112.09164; appendix H of the MSN paper): what its samples share is in the "
        "representation, what varies is not.",
    )
    add_commands(parser, COMMANDS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    run_tool(main)
