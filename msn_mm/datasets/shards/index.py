"""Where each image lies in each shard, found once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from mmengine.logging import print_log

from msn_mm.convert.download import cache_directory
from msn_mm.datasets.shards.contents import Contents, look_through
from msn_mm.datasets.shards.names import is_address
from msn_mm.datasets.shards.stage import Copied
from msn_mm.errors import UserError
from msn_mm.utils.progress import Progress
from msn_mm.utils.results import writing_atomically

# Of the files that are kept; another number makes them anew.
_FORMAT = "1"
# Shards that are looked through at a time: a network disk answers slowly, but many.
_AT_A_TIME = 8


@dataclass(frozen=True)
class IndexedShard:
    """A shard as it was when it was looked through.

    Attributes:
        shard: Path or address.
        bytes: Its size.
        modified: Its time of change in nanoseconds; 0 for an address.
        kept: The file that its contents are kept in.
    """

    shard: str
    bytes: int
    modified: int
    kept: Path

    def copied(self) -> Copied:
        """Return what a copy of it is made of, or refused by."""
        version = "" if is_address(self.shard) else f"{self.bytes} {self.modified}"
        return Copied(self.shard, version, self.check)

    def check(self, status: os.stat_result) -> None:
        """Compare with the shard as it is now.

        Raises:
            UserError: It is another.
        """
        if (status.st_size, self._time_of(status)) != (self.bytes, self.modified):
            # An address tells nothing of itself beforehand, so its index would stay.
            with suppress(OSError):
                self.kept.unlink()
            raise UserError(
                f"shard {self.shard} has changed since it was indexed ({self.bytes} bytes then, "
                f"{status.st_size} now, or another time of change); start again to index it anew"
            )

    def _time_of(self, status: os.stat_result) -> int:
        return 0 if is_address(self.shard) else status.st_mtime_ns


def index_shards(
    shards: Sequence[str],
    image: str | None,
    label: str | None,
    fetch: Callable[[str], IO[bytes]],
) -> list[tuple[IndexedShard, Contents]]:
    """Return each shard and what is in it, from the cache where that is still right.

    The cache is ``shards`` below :func:`~msn_mm.convert.download.cache_directory`. A
    local shard is told by its path, size and time of change.

    Args:
        shards: Paths and addresses.
        image: As :func:`~msn_mm.datasets.shards.contents.look_through`.
        label: Likewise.
        fetch: Opens the local copy of an address.

    Raises:
        UserError: A shard is missing or cannot be used; see there.
    """
    folder = cache_directory() / "shards"
    found = {shard: _kept(folder, shard, image, label) for shard in shards}
    if None not in found.values():
        return [pair for pair in found.values() if pair is not None]
    key = hashlib.sha256("\0".join(map(os.path.abspath, shards)).encode("utf-8", "replace"))
    # Of several processes one looks through them.
    with _lock(folder, key.hexdigest()[:16]):
        found = {shard: _kept(folder, shard, image, label) for shard in shards}
        missing = [shard for shard, pair in found.items() if pair is None]
        with (
            Progress(len(missing), "index", unit="shards") as progress,
            ThreadPoolExecutor(_AT_A_TIME) as pool,
        ):
            made = pool.map(lambda shard: _make(folder, shard, image, label, fetch), missing)
            try:
                for done, (shard, pair) in enumerate(zip(missing, made, strict=True), 1):
                    found[shard] = pair
                    progress.to(done)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [pair for pair in found.values() if pair is not None]


def _lock(folder: Path, key: str) -> Any:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}.lock").touch()
    except OSError as error:
        print_log(
            f"the index of the shards cannot be kept in {folder} ({error.strerror}) and is made "
            "anew each time; set MSN_MM_CACHE to a folder of yours",
            "current",
            logging.WARNING,
        )
        return nullcontext()
    return FileLock(folder / f"{key}.lock")


def _place(folder: Path, shard: str, image: str | None, label: str | None) -> Path:
    where = shard if is_address(shard) else os.path.realpath(shard)
    what = "\0".join([_FORMAT, where, image or "", label or ""])
    return folder / f"{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()}.npz"


def _kept(
    folder: Path, shard: str, image: str | None, label: str | None
) -> tuple[IndexedShard, Contents] | None:
    path = _place(folder, shard, image, label)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        size, modified = arrays.pop("shard").tolist()
        contents = Contents(**arrays)
        status = None if is_address(shard) else os.stat(shard)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None  # not there, or damaged
    if status is not None and (status.st_size, status.st_mtime_ns) != (size, modified):
        return None
    return IndexedShard(shard, size, modified, path), contents


def _make(
    folder: Path,
    shard: str,
    image: str | None,
    label: str | None,
    fetch: Callable[[str], IO[bytes]],
) -> tuple[IndexedShard, Contents]:
    path = _place(folder, shard, image, label)
    try:
        with fetch(shard) if is_address(shard) else Path(shard).open("rb") as file:
            status = os.fstat(file.fileno())
            contents = look_through(shard, file, image, label)
    except OSError as error:
        raise UserError(f"cannot read shard {shard}: {error.strerror or error}") from error
    modified = 0 if is_address(shard) else status.st_mtime_ns
    # A folder that cannot be written was told of when it was tried.
    with suppress(UserError), writing_atomically(path) as kept:
        np.savez(kept, shard=np.array([status.st_size, modified]), **vars(contents))
    return IndexedShard(shard, status.st_size, modified, path), contents
