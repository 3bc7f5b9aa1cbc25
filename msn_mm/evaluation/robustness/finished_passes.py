"""The passes over images that are done, kept in a file: what a stopped run need not repeat."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.results import to_json, write_atomically

_VERSION = 1
Pass = dict[str, Any]


class FinishedPasses:
    """A JSON file of finished passes, written anew after each, whole or not at all.

    A pass is found by a hash of all that its numbers depend on; whoever changes
    the weights, an image or the view gets another one.

    Args:
        path: The file; made with the first pass. One that cannot be read is
            told in a line and begun anew.

    Several runs may write to one file at a time: each keeps the others' passes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._passes: dict[str, Pass] = self._read()
        self._before = frozenset(self._passes)
        self._found: set[str] = set()

    @property
    def found(self) -> int:
        """How many passes were asked for that were finished when the file was first read."""
        return len(self._found)

    def __len__(self) -> int:
        return len(self._passes)

    def get(self, key: str) -> Pass | None:
        """Return a finished pass, ``None`` where there is none."""
        if key in self._before:
            self._found.add(key)
        return self._passes.get(key)

    def add(self, key: str, done: Pass) -> None:
        """Keep a pass.

        Raises:
            UserError: The file cannot be written.
        """
        with self._alone():
            self._passes = {**self._read(), **self._passes, key: to_json(done)}
            content = {"version": _VERSION, "passes": self._passes}
            write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs from writing; a lock that a killed run held is free."""
        beside = self.path.with_name(f".{self.path.name}.lock")
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            lock = beside.open("a")
        except OSError as error:
            raise UserError(
                f"cannot write {beside}: {error.strerror}; make room, or name another place"
            ) from error
        with lock:
            # some network disks know no locks; there one run at a time is the user's care
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Pass]:
        try:
            content = json.loads(self.path.read_bytes())
            found = content["passes"] if content["version"] == _VERSION else None
            if not isinstance(found, dict) or not all(_is_whole(one) for one in found.values()):
                raise ValueError("not a list of finished passes")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(
                f"warning: cannot read {self.path} ({' '.join(str(error).split())}); all passes "
                "are run again",
                file=sys.stderr,
            )
            return {}
        return found


def pass_key(meaning: Mapping[str, Any]) -> str:
    """Return the hash of all that a pass depends on, as JSON values."""
    text = json.dumps(to_json(meaning), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    correct, images = one.get("correct"), one.get("images")
    return type(correct) is int and type(images) is int and 0 <= correct <= images > 0
