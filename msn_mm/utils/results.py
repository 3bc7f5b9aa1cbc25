"""``results.json``, the file that every tool leaves, and the table that it prints."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch

import msn_mm
from msn_mm.errors import UserError
from msn_mm.utils.permissions import give_usual_rights


def write_results(
    path: str | Path,
    tool: str,
    config: str | Sequence[str] | None,
    checkpoint: str | Path | Sequence[str | Path | None] | None,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Write one tool's results as JSON, whole or not at all.

    Args:
        path: File to write; its directory is made.
        tool: Name of the tool.
        config: The config as the user named it, or those of several rows.
        checkpoint: The checkpoint as the user named it; its SHA-256 is taken
            when the file exists. A list or tuple for several rows (None: a row
            without weights of its own) is written as lists of the same length.
        settings: What the numbers depend on.
        metrics: The numbers; accuracies in percent. NaN and infinities, which
            JSON lacks, become null.
        seconds: Duration of the work.

    Returns:
        What was written.
    """
    path = Path(path)
    content = {
        "tool": tool,
        "config": to_json(config),
        "checkpoint": to_json(checkpoint),
        "checkpoint_sha256": _hashes(checkpoint),
        "settings": to_json(settings),
        "metrics": to_json(metrics),
        "environment": environment(),
        "seconds": to_json(round(float(seconds), 3)),
    }
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return content


def environment() -> dict[str, Any]:
    """Return versions and hardware that results may depend on; nothing that names a machine."""
    packages = ("torchvision", "mmengine", "mmpretrain", "timm", "cyanure", "numpy")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "msn_mm": msn_mm.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: _version(name) for name in packages},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "device": device,
    }


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashes(checkpoint: str | Path | Sequence[str | Path | None] | None) -> Any:
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str | Path):
        return sha256(Path(checkpoint)) if Path(checkpoint).is_file() else None
    return [_hashes(one) for one in checkpoint]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside ``path``, then rename it there: no reader sees a part of it."""
    with writing_atomically(path) as file:
        file.write(content)


@contextmanager
def writing_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that is renamed there once all of it is on the disk.

    Raises:
        UserError: The place cannot be written, or is full.
    """
    try:
        with _writing(path) as file:
            yield file
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room, or name another place"
        ) from error


def output_directory(path: str | Path) -> Path:
    """Make the directory that a tool writes to, before its work.

    Raises:
        UserError: It cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to --out {path}: {error.strerror}; name a directory of yours"
        ) from error
    return path


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp grants the owner alone; a result has the rights of any new file
        give_usual_rights(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def to_json(value: Any) -> Any:
    """Turn tensors, arrays, numpy scalars and paths into what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


class Table(NamedTuple):
    """The cells of a table, for a terminal or a page.

    Attributes:
        header: Names of the columns.
        rows: As many cells each; the first names the row.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Lay it out as plain text; see :func:`format_table`."""
        return format_table(self.header, self.rows)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a plain-text table: first column to the left, the others to the right.

    Raises:
        ValueError: A row has another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells and the header {len(header)}")
    widths = [max(len(cells[i]) for cells in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
