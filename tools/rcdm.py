"""See what a representation knows: ``python tools/rcdm.py train|sample|interpolate|...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from msn_mm.errors import UserError
from msn_mm.utils.cli import run_tool

COMMANDS = ("train",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    from msn_mm.commands.rcdm import train

    return train(words[1:])


if __name__ == "__main__":
    run_tool(main)
