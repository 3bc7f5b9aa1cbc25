"""Parts of long work that are done, kept in a file: what a stopped run need not repeat."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.results import to_json, write_atomically

_VERSION = 1
Record = dict[str, Any]


class FinishedWork(ABC):
    """A JSON file of finished parts, written anew after each, whole or not at all.

    A part is found by a hash of all that its result depends on; whoever changes
    the weights, an image or a setting gets another one.

    Args:
        path: The file; made with the first part. A damaged one is told in a line
            and begun anew.

    Attributes:
        parts: What messages and the file call the parts.

    Several runs may write to one file at a time: each keeps the others' parts.

    Raises:
        UserError: The disk does not give the file, which may be whole.
    """

    parts: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, Record] = self._read()
        self._before = frozenset(self._records)
        self._found: set[str] = set()

    @staticmethod
    @abstractmethod
    def is_whole(record: Record) -> bool:
        """Whether a record holds what a part leaves."""

    @property
    def found(self) -> int:
        """How many parts were asked for that were finished when the file was first read."""
        return len(self._found)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> Record | None:
        """Return what a finished part left, ``None`` where it is not finished."""
        if key in self._before:
            self._found.add(key)
        return self._records.get(key)

    def add(self, key: str, done: Record) -> None:
        """Keep what a part left.

        Raises:
            UserError: The file cannot be written, or what others left there not read.
        """
        with self._alone():
            self._records = {**self._read(), **self._records, key: to_json(done)}
            content = {"version": _VERSION, self.parts: self._records}
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

    def _read(self) -> dict[str, Record]:
        try:
            content = json.loads(self.path.read_bytes())
            found = content[self.parts] if content["version"] == _VERSION else None
            if not isinstance(found, dict) or not all(
                isinstance(one, dict) and self.is_whole(one) for one in found.values()
            ):
                raise ValueError(f"not a list of finished {self.parts}")
        except FileNotFoundError:
            return {}
        except OSError as error:
            # written anew without the parts that it holds they would be lost
            raise UserError(
                f"cannot read {self.path}: {error.strerror or error}; see to it that it can be "
                "read, or name another place"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            print(
                f"warning: cannot read {self.path} ({' '.join(str(error).split())}); all "
                f"{self.parts} are run again",
                file=sys.stderr,
            )
            return {}
        return found


def work_key(meaning: Mapping[str, Any]) -> str:
    """Return the hash of all that a part of the work depends on, as JSON values."""
    text = json.dumps(to_json(meaning), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
