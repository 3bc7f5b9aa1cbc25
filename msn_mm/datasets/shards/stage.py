"""Copies of shards on a fast disk: each is read once from end to end, a few are kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock

from msn_mm.datasets.shards.names import is_address, webdataset
from msn_mm.errors import UserError

_PIECE = 1 << 20
# Seconds that the thread waits for work: a process forked meanwhile has no such thread.
_IDLE_S = 5.0
# No name that anybody's own file has: copies are deleted by it.
_COPY = ".msn_mm-copy"


class Copied(NamedTuple):
    """What a copy is made of.

    Attributes:
        shard: Path or address.
        version: Tells copies of a shard that changed apart.
        check: Looks at the status of the file that was read (of the copy, for an
            address) and raises where it is not the one that was meant.
    """

    shard: str
    version: str = ""
    check: Callable[[os.stat_result], None] | None = None

    @property
    def key(self) -> str:
        """A file name for the copy."""
        where = self.shard if is_address(self.shard) else os.path.realpath(self.shard)
        what = f"{where}\0{self.version}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(what).hexdigest()[:32] + _COPY


class ShardStage:
    """A folder of copies that all processes of a machine share.

    The copies used longest ago go when there are more than ``keep``. What still
    reads one of them goes on reading; what opens it again fetches it again.

    Args:
        folder: Where; None for a folder of this user below the system's temporary one.
        keep: How many copies stay.

    Raises:
        UserError: The folder cannot be made, or is another user's.
    """

    def __init__(self, folder: str | Path | None, keep: int) -> None:
        own = Path(tempfile.gettempdir(), f"msn_mm_{os.getuid()}")
        self.folder = own if folder is None else Path(folder).expanduser()
        self.keep = keep
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = self.folder.stat().st_uid
        except OSError as error:
            raise UserError(
                f"cannot make {self.folder} for copies of shards ({error.strerror}); set stage_dir"
            ) from error
        if folder is None and owner != os.getuid():  # anyone can make it there, for others
            raise UserError(f"{self.folder} belongs to another user; set stage_dir to one of yours")
        self._wanted: list[Copied] = []
        self._more = threading.Condition()
        self._thread: threading.Thread | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "keep": self.keep}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def open(self, copied: Copied, fresh: bool = False) -> IO[bytes]:
        """Open the copy of a shard, made now if it is not there.

        Args:
            copied: The shard.
            fresh: Make it anew also if it is there.

        Raises:
            UserError: The shard cannot be had, or is another, or there is no room for it.
        """
        copy = self.folder / copied.key
        if fresh:
            copy.unlink(missing_ok=True)
        while True:
            try:
                file = copy.open("rb")
            except FileNotFoundError:
                self._fetch(copied, copy)
                continue
            with suppress(
                FileNotFoundError
            ):  # dropped this very moment; it can be read all the same
                os.utime(copy)
            return file

    def prepare(self, shards: Iterable[Copied]) -> None:
        """Copy shards in the background, in this order, and no longer those of the last call.

        Where copying falls behind, what was shown meanwhile need not be copied any more.
        One that cannot be had is told of when it is opened.
        """
        with self._more:
            self._wanted = list(shards)
            self._more.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="stage")
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._more:
                if not self._more.wait_for(lambda: self._wanted, _IDLE_S):
                    self._thread = None
                    return
                copied = self._wanted.pop(0)
            try:
                self.open(copied).close()
            except Exception:  # told where the shard is opened
                continue

    def _fetch(self, copied: Copied, copy: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # cleaners empty /tmp
            with FileLock(copy.with_suffix(".lock")):
                if not copy.exists():
                    _copy(copied, copy)
            self._drop_oldest()
        except OSError as error:
            reason = " ".join(str(error.strerror or error).split())
            raise UserError(
                f"cannot copy shard {copied.shard} to {self.folder}: {reason}; see that it can be "
                "read, and that there is room (stage_dir, window)"
            ) from error

    def _drop_oldest(self) -> None:
        with FileLock(self.folder / "drop.lock"):
            used = []
            for file in self.folder.glob(f"*{_COPY}"):
                with suppress(FileNotFoundError):
                    used.append((file.stat().st_mtime_ns, file))
            for _, file in sorted(used)[: -self.keep]:
                file.unlink(missing_ok=True)


def _copy(copied: Copied, copy: Path) -> None:
    part = copy.with_suffix(".part")
    try:
        with _source(copied.shard) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
            target.flush()
            status = os.fstat((target if is_address(copied.shard) else source).fileno())
        if copied.check is not None:
            copied.check(status)
        part.rename(copy)
    finally:
        part.unlink(missing_ok=True)


def _source(shard: str) -> IO[bytes]:
    if not is_address(shard):
        return Path(shard).open("rb")
    try:
        return webdataset().gopen(shard)
    except OSError:
        raise
    except Exception as error:  # an address of a kind that it does not know, a missing program
        raise OSError(str(error)) from error
