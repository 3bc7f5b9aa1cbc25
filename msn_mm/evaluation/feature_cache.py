"""Features on disk, found by what they are features of.

A shelf holds the rows that one encoder gives through one view (and one mask);
its directory is named by a hash of those. Within it a row is found by the
identity of its image. Nothing is ever out of date: a changed checkpoint, view
or image has another name. What remains to be told is damage, so a shard's name
is the hash of what it holds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.evaluation_images import IDENTITY_BYTES, EvaluationImages
from msn_mm.errors import UserError
from msn_mm.utils.results import write_atomically, writing_atomically

Ids = NDArray[np.uint8]
Rows = NDArray[np.float32]

# What numpy and zipfile raise at files that are cut, changed or of another kind.
_UNREADABLE = (
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
# What an offset raises that a damaged archive gives, not the disk.
_BAD_OFFSET = (errno.EINVAL, None)
_FORMAT = 1
# Shards below half of this are merged, up to it.
_SHARD_BYTES = 64 * 2**20
_MOST_SMALL = 4
_LEFTOVER_S = 24 * 3600.0


def row_ids(images: EvaluationImages, indices: NDArray[np.int64], with_index: bool) -> Ids:
    """Return the identity of each image, with its index if the row depends on that too.

    Args:
        images: The data set.
        indices: ``(n,)``.
        with_index: A random mask follows the index of an image.

    Returns:
        ``(n, 16)`` uint8.

    Raises:
        UserError: An image file is not there.
    """
    ids = []
    for index in indices.tolist():
        identity = images.identity(index)
        if with_index:
            identity += index.to_bytes(8, "little")
            identity = blake2b(identity, digest_size=IDENTITY_BYTES).digest()
        ids.append(identity)
    return np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, IDENTITY_BYTES)


def unique_rows(ids: Ids) -> tuple[Ids, NDArray[np.int64], NDArray[np.int64]]:
    """Return the different ids, where each comes first, and which of them each one is."""
    _, first, inverse = np.unique(_words(ids), return_index=True, return_inverse=True)
    return ids[first], first, inverse


class FeatureCache:
    """A directory of features, safe to share between runs that go on at the same time.

    Args:
        directory: Where; made when the first row is written.

    Attributes:
        hits: Rows that were found so far, over all requests.
        misses: Rows that had to be encoded.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.hits = 0
        self.misses = 0

    def shelf(self, meaning: Mapping[str, Any] | None) -> Shelf | None:
        """Return the shelf of rows that have this in common.

        Args:
            meaning: JSON values; ``None`` when it cannot be told, and there is no shelf.
        """
        if meaning is None:
            _say("features are not cached: the transform has no settings() to tell its views apart")
            return None
        return Shelf(self.directory, {"format": _FORMAT, **meaning})


class Shelf:
    """The rows of one encoder through one view.

    Args:
        directory: The cache's.
        meaning: What the rows have in common; its hash names the shelf, and it
            lies there as ``about.json`` for people to read.
    """

    def __init__(self, directory: Path, meaning: Mapping[str, Any]) -> None:
        text = json.dumps(meaning, sort_keys=True, indent=2)
        self._key = sha256(text.encode()).hexdigest()[:32]
        self._about = (text + "\n").encode()
        self.directory = directory / self._key

    def read(self, ids: Ids, width: int | None = None) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Yield the rows that are there, shard by shard.

        A damaged or foreign shard is told in one line and removed; one that cannot
        be read is told and passed over.

        Args:
            ids: ``(n, 16)``, all different.
            width: D, where known; rows of another width are foreign.

        Yields:
            Places in ``ids`` ``(k,)``, each once, and their rows ``(k, D)``.
        """
        wanted = _words(ids)
        order = np.argsort(wanted)
        ordered = wanted[order]
        is_open = np.ones(len(ids), dtype=bool)

        def places_of(words: NDArray[np.bytes_]) -> NDArray[np.int64]:
            return order[np.minimum(np.searchsorted(ordered, words), len(order) - 1)]

        def is_wanted(there: Ids) -> bool:
            words = _words(there)
            return bool((wanted[places_of(words)] == words).any())

        seen: set[Path] = set()
        while shards := [path for path in self._shards() if path not in seen]:
            # Another run may merge shards meanwhile: look again for new ones.
            seen.update(shards)
            for path in shards:
                if not is_open.any():
                    return
                loaded = self._load(path, width, is_wanted)
                if loaded is None:
                    continue
                words, rows = _words(loaded[0]), loaded[1]
                width = rows.shape[1]
                places = places_of(words)
                is_hit = (wanted[places] == words) & is_open[places]
                is_open[places[is_hit]] = False
                yield places[is_hit], rows[is_hit]

    def write(self, ids: Ids, rows: Rows) -> None:
        """Keep rows: one shard, there as a whole or not at all.

        Raises:
            UserError: The directory cannot be written.
        """
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        path = self.directory / f"{self._digest(ids, rows)}.npz"
        try:
            if not (self.directory / "about.json").is_file():
                write_atomically(self.directory / "about.json", self._about)
            with writing_atomically(path) as file:
                np.savez(file, ids=ids, features=rows)
        except UserError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise UserError(
                f"cannot write the feature cache {self.directory.parent}: {reason}; make "
                "room, or name another directory, or do without a cache"
            ) from error

    def compact(self) -> None:
        """Merge small shards, once there are more than a few, and clear what was left behind.

        Where the shelf may only be read, or another run does the same, it stays as it is.
        """
        with contextlib.suppress(OSError, UserError):
            small = [path for path in self._shards() if _size(path) < _SHARD_BYTES // 2]
            if len(small) > _MOST_SMALL:
                group: list[Path] = []
                for path in sorted(small, key=_size):
                    if sum(map(_size, group)) + _size(path) > _SHARD_BYTES:
                        self._merge(group)
                        group = []
                    group.append(path)
                self._merge(group)
            for path in self.directory.glob(".*"):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink(missing_ok=True)

    def _merge(self, paths: list[Path]) -> None:
        # By width: the next to read tells which are foreign.
        groups: dict[int, list[tuple[Path, Ids, Rows]]] = {}
        for path in paths:
            if (shard := self._load(path)) is not None:
                groups.setdefault(shard[1].shape[1], []).append((path, *shard))
        for loaded in groups.values():
            if len(loaded) < 2:
                continue
            ids = np.concatenate([shard[1] for shard in loaded])
            rows = np.concatenate([shard[2] for shard in loaded])
            ids, first, _ = unique_rows(ids)
            self.write(ids, rows[first])
            merged = self.directory / f"{self._digest(ids, rows[first])}.npz"
            for path, *_ in loaded:
                if path != merged:
                    path.unlink(missing_ok=True)

    def _shards(self) -> list[Path]:
        return sorted(self.directory.glob("[!.]*.npz"))

    def _load(
        self, path: Path, width: int | None = None, wants: Callable[[Ids], Any] | None = None
    ) -> tuple[Ids, Rows] | None:
        """Read and check a shard; ``None`` if it is bad, gone or holds nothing that is wanted.

        A bad one is removed; one that the disk does not give now may be whole, and stays.
        """
        try:
            # Arrays of numbers only: nothing in a shard can run.
            with np.load(path, allow_pickle=False) as archive:
                ids = archive["ids"]
                if _are_ids(ids) and wants is not None and not wants(ids):
                    return None
                rows = archive["features"]
            self._check(path, ids, rows, width)
        except FileNotFoundError:
            return None  # another run has merged it
        except (OSError, *_UNREADABLE) as error:
            may_be_whole = isinstance(error, OSError) and error.errno not in _BAD_OFFSET
            what = "cannot be read" if may_be_whole else "is damaged or foreign"
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            _say(f"feature cache: {path} {what} ({why}); its images are encoded anew")
            if not may_be_whole:
                # Where it is not ours to remove it is passed over.
                with contextlib.suppress(OSError):
                    path.unlink()
            return None
        return ids, rows

    def _check(self, path: Path, ids: Ids, rows: Rows, width: int | None) -> None:
        if not _are_ids(ids):
            raise ValueError("it names no images")
        if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(ids):
            raise ValueError("its rows do not fit its images")
        if self._digest(ids, rows) != path.stem:
            raise ValueError("it holds something else than when it was written")
        if width is not None and rows.shape[1] != width:
            raise ValueError(f"its features have {rows.shape[1]} numbers, not {width}")

    def _digest(self, ids: Ids, rows: Rows) -> str:
        digest = blake2b(self._key.encode(), digest_size=16)
        digest.update(f"{ids.shape}{rows.shape}".encode())
        digest.update(np.ascontiguousarray(ids).data)
        digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()


def _are_ids(ids: NDArray[Any]) -> bool:
    return ids.dtype == np.uint8 and ids.ndim == 2 and ids.shape[1] == IDENTITY_BYTES


def _words(ids: Ids) -> NDArray[np.bytes_]:
    """Each id as one value that numpy sorts and compares; all have the same length."""
    return np.ascontiguousarray(ids).view(f"S{IDENTITY_BYTES}").reshape(-1)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _say(line: str) -> None:
    print(f"warning: {' '.join(line.split())}", file=sys.stderr, flush=True)
