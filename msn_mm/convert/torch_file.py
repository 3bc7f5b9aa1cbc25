"""Tensor files read as data: torch's two formats and safetensors, by their first bytes."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from msn_mm.convert.bounds import check_archive, check_pickle_file, check_tensors
from msn_mm.convert.pickled_numpy import SAFE_GLOBALS
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import FileKind, check_checkpoint_file

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_tensor_file(path: Path, mmap: bool = True) -> tuple[Any, dict[str, str]]:
    """Read a checkpoint file onto the host, as data.

    Args:
        path: A file of ``torch.save`` in its present or its first format, or a
            safetensors file, whatever its name.
        mmap: Leave tensors in the file until they are used, where its format allows; the
            file must then outlive them.

    Returns:
        Its content, and the metadata of a safetensors file (else empty).

    Raises:
        UserError: There is no such file, it is cut off or of another kind, or
            it holds code.
    """
    kind = check_checkpoint_file(path)
    if kind is FileKind.SAFETENSORS:
        return _load_safetensors(path)
    try:
        (check_archive if kind is FileKind.ZIP else check_pickle_file)(path)
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{path}' is not a whole checkpoint: {_first_line(error)}") from error
    content = _load_torch(path, mmap=mmap and kind is FileKind.ZIP)
    check_tensors(content, path)
    return content, {}


def _load_torch(path: Path, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        foreign = _GLOBAL.search(str(error))
        if foreign is None and "memo" not in str(error) and "persistent" not in str(error):
            raise UserError(
                f"'{path}' is not a whole checkpoint: it is damaged, or of another kind"
            ) from error
        what = f" ({foreign[1]})" if foreign else ""
        raise UserError(
            f"'{path}' holds more than tensors and plain values{what} and is not loaded, because "
            "that could run code; save it anew with its weights only"
        ) from error
    except Exception as error:  # torn pickles fail in every way that a pickle machine can
        raise UserError(f"'{path}' is not a whole checkpoint: {_first_line(error)}") from error


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"'{path}' is not a whole checkpoint: {_first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: The file is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read as JSON: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no JSON object")
    return content


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
