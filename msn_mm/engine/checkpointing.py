"""Checkpoints that survive a kill and load without running code.

Three parts: content that ``torch.load(weights_only=True)`` accepts, a storage
backend that never leaves a torn file under the final name, and the search for
the newest whole file to resume from.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer

from msn_mm.errors import UserError

ATOMIC_BACKEND = "atomic_local"

_HISTORY = "__history_buffer__"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)


def to_plain(value: Any, dropped: list[str], name: str = "checkpoint") -> Any:
    """Return a copy of a checkpoint's content in types that a safe load accepts.

    Containers become ``dict``, ``OrderedDict``, ``list`` or ``tuple``; MMEngine's
    ``HistoryBuffer`` a dict of two tensors (see :func:`from_plain`); NumPy
    scalars Python's; NumPy arrays tensors; paths strings. Tensors are passed on
    unchanged.

    Args:
        value: the content.
        dropped: receives the name of each entry that no safe type can hold;
            ``None`` takes its place.
        name: name of ``value`` in those entries.
    """
    if isinstance(value, HistoryBuffer):
        history, count = value.data
        return {
            _HISTORY: int(value.max_length),
            "history": torch.from_numpy(np.array(history, dtype=np.float64)),
            "count": torch.from_numpy(np.array(count, dtype=np.int64)),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.array(value))
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind(
            (to_plain(k, dropped, f"{name} key"), to_plain(v, dropped, f"{name}.{k}"))
            for k, v in value.items()
        )
    if isinstance(value, list | tuple | deque | set | frozenset) and type(value) is not torch.Size:
        items = [to_plain(v, dropped, f"{name}.{i}") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, torch.nn.Parameter):
        return value.detach()
    if isinstance(value, torch.Tensor) or type(value) in _PLAIN:
        return value
    if isinstance(value, Path):
        return str(value)
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    dropped.append(f"{name} ({type(value).__name__})")
    return None


def from_plain(value: Any) -> Any:
    """Return ``value`` with every ``HistoryBuffer`` rebuilt; inverse of :func:`to_plain`.

    A resume loads to the current device, so the histories are fetched to the
    host first.
    """
    if isinstance(value, Mapping):
        if _HISTORY in value:
            return HistoryBuffer(
                value["history"].cpu().numpy(), value["count"].cpu().numpy(), value[_HISTORY]
            )
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((k, from_plain(v)) for k, v in value.items())
    return value


@register_backend(ATOMIC_BACKEND, force=True)
class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only when they are whole on disk."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write bytes beside ``filepath``, flush them to disk, then rename."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes the file private; the user's umask decides instead.
            Path(beside).chmod(0o666 & ~_umask())
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text as :meth:`put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint file was written to its end.

    torch writes a zip archive whose directory comes last, so a torn file has none.
    """
    return path.is_file() and zipfile.is_zipfile(path)


def find_resumable(work_dir: str | Path, asked: Path | None = None) -> tuple[Path, list[str]]:
    """Return the checkpoint to resume from and what was passed over on the way.

    Args:
        work_dir: directory of the run; its newest whole ``epoch_*`` or
            ``iter_*`` file is taken. MMEngine's ``last_checkpoint`` is not
            read: after a kill it may be missing, empty or behind.
        asked: a file that the user named instead.

    Returns:
        The file, and one sentence for each newer file that is torn.

    Raises:
        UserError: when there is nothing whole to resume from.
    """
    directory = Path(work_dir)
    if asked is not None:
        if asked.is_dir():
            return find_resumable(asked)
        if not asked.is_file():
            raise UserError(f"--resume: no checkpoint at '{asked}'{_offer(asked.parent)}")
        if not is_whole(asked):
            raise UserError(f"--resume: '{asked}' is damaged or torn{_offer(asked.parent)}")
        return asked, []
    skipped: list[str] = []
    for path in _newest_first(directory):
        if is_whole(path):
            return path, skipped
        skipped.append(f"passing over {path.name}: it was not written to its end")
    torn = f" ({len(skipped)} torn)" if skipped else ""
    raise UserError(
        f"--resume: no whole checkpoint in '{directory}'{torn}; leave --resume out to start from "
        "scratch, or give the path of a checkpoint"
    )


def _newest_first(directory: Path) -> list[Path]:
    numbered = []
    for path in directory.glob("*.pth"):
        match = re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name)
        if match:
            numbered.append((path.stat().st_mtime_ns, int(match[1]), path))
    return [path for *_, path in sorted(numbered, reverse=True)]


def _offer(directory: Path) -> str:
    whole = next((path for path in _newest_first(directory) if is_whole(path)), None)
    return f"; the newest whole one there is '{whole.name}'" if whole else ""
