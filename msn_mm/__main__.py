"""``msn-mm COMMAND ...``, or ``python -m msn_mm COMMAND ...``: the way of one with few labels."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import msn_mm
from msn_mm import commands
from msn_mm.utils.cli import ArgumentParser, run_tool
from msn_mm.utils.subcommands import Command, add_commands


def find_commands() -> dict[str, Command]:
    """Return the modules of :mod:`msn_mm.commands` by the names of their commands."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {
        name.replace("_", "-"): import_module(f"{commands.__name__}.{name}")  # type: ignore[misc]
        for name in names
    }


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="msn-mm",
        description="A classifier of your own images from a pre-trained encoder and a few labels.",
    )
    parser.add_argument("--version", action="version", version=f"msn_mm {msn_mm.__version__}")
    add_commands(parser, find_commands())
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that a command line names and return its exit status."""
    args = parse_args(argv)
    return args.run(args)


def entry() -> NoReturn:
    """Run the console script."""
    run_tool(main)


if __name__ == "__main__":
    entry()
