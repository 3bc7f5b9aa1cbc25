"""Local files that are whole or absent, whatever happens to the process that writes them."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path
from typing import IO

from mmengine.fileio import LocalBackend, register_backend

from msn_mm.utils.permissions import give_usual_rights

ATOMIC_BACKEND = "atomic_local"

# What a directory that cannot be flushed answers; its file system keeps no order to ask for.
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF, errno.EPERM)
_BESIDE = re.compile(r"\.(last_checkpoint|.+\.pth)\.[a-z0-9_]{8}\.tmp")


@register_backend(ATOMIC_BACKEND, force=True)
class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only when they are whole on disk."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write bytes beside ``filepath``, flush them to disk, rename, flush the directory.

        Raises:
            OSError: the place is full, read-only or gone. What stood under the
                name stands there still.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                self._write(file, obj)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes the file private; the user's umask decides instead.
            give_usual_rights(Path(beside))
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        _flush_directory(path.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text as :meth:`put` writes bytes."""
        self.put(obj.encode(encoding), filepath)

    def _write(self, file: IO[bytes], obj: bytes | memoryview) -> None:
        file.write(obj)


def remove_unfinished(directory: str | Path) -> list[str]:
    """Remove what killed saves left beside the checkpoints of ``directory``.

    Returns:
        The names of the removed files.
    """
    removed = []
    for path in Path(directory).glob(".*.tmp"):
        if _BESIDE.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return sorted(removed)


def _flush_directory(directory: Path) -> None:
    """Make a renaming last through a power failure, where the file system can."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(handle)
