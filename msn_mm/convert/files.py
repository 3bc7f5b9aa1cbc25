"""Tensor files and directories that appear under their name only when they are whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.utils.permissions import give_usual_rights


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give the name of a file beside ``path`` that takes its place once it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield beside
        _flush(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give a directory beside ``path`` that takes its place once it is filled.

    Raises:
        UserError: There is a directory with content already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"'{path}' is there already; remove it or give another directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    beside.mkdir()
    try:
        yield beside
        for file in beside.iterdir():
            _flush(file)
        beside.replace(path)  # an empty directory gives way
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; tensors may be views of one another.

    The metadata tell that they are PyTorch's, which transformers asks for.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    seen: set[int] = set()
    for name, value in whole.items():
        place = value.untyped_storage().data_ptr()
        if place in seen:
            whole[name] = value.clone()
        seen.add(place)
    save_file(whole, path, metadata={"format": "pt", **(metadata or {})})
    give_usual_rights(path)  # safetensors makes it private


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
