"""Command lines of several commands, each a module of its own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Protocol


class Command(Protocol):
    """What the module of a command has."""

    HELP: str

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    @staticmethod
    def run(args: Any) -> int:
        """Run the command and return its exit status."""


def add_commands(parser: argparse.ArgumentParser, commands: Mapping[str, Command]) -> None:
    """Add commands by their names; what a line parses to has the chosen one's ``run``."""
    places = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in commands.items():
        place = places.add_parser(name, help=command.HELP, description=command.__doc__)
        command.add_arguments(place)
        place.set_defaults(run=command.run)
