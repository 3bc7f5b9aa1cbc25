"""What a checkpoint file may not do to the memory of its reader, told before it does."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msn_mm.errors import UserError

# ``bytearray(n)`` in a pickle of some bytes takes n bytes; no checkpoint of weights needs it.
_BOMBS = (b"builtins\nbytearray\n", b"__builtin__\nbytearray\n")
# A tensor that repeats its numbers may be so large all the same.
_SMALL = 1 << 20


def check_archive(path: Path) -> None:
    """Refuse a file of ``torch.save``'s present format that torch would not have written.

    Raises:
        UserError: Its members are compressed, or its pickle makes byte arrays.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise UserError(
                    f"'{path}' is not a whole checkpoint: '{member.filename}' in it is compressed, "
                    "which torch.save never does; unpack it and pack it without compression"
                )
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                _check_pickle(path, archive.read(member))


def check_pickle_file(path: Path) -> None:
    """Refuse a file of ``torch.save``'s first format that makes byte arrays.

    Raises:
        UserError: It does.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check_pickle(path, content)


def _check_pickle(path: Path, content: bytes | mmap.mmap) -> None:
    if any(content.find(bomb) >= 0 for bomb in _BOMBS):
        raise UserError(
            f"'{path}' holds more than tensors and plain values (builtins.bytearray) and is not "
            "loaded, because that could take any amount of memory; save it anew with its weights "
            "only"
        )


def check_tensors(content: Any, source: str | Path) -> None:
    """Refuse tensors that are not what they seem.

    Args:
        content: Nested mappings and sequences, with tensors somewhere.
        source: The file, for the error.

    Raises:
        UserError: A tensor is sparse, quantised or without content, or larger than
            what the file holds of it.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, Tensor):
            _check_tensor(name, node, source)
        elif isinstance(node, Mapping | list | tuple | set) and id(node) not in seen:
            seen.add(id(node))
            items: Iterable[tuple[Any, Any]]
            items = node.items() if isinstance(node, Mapping) else ((name, v) for v in node)
            waiting.extend((str(key)[:60], value) for key, value in items)


def _check_tensor(name: str, value: Tensor, source: str | Path) -> None:
    kind = None
    if value.layout != torch.strided:
        kind = "sparse"
    elif value.is_quantized:
        kind = "quantised"
    elif value.is_meta:
        kind = "without content (device meta)"
    if kind is not None:
        raise UserError(f"the tensor '{name}' of '{source}' is {kind}; save it as a plain one")
    size = value.numel() * value.element_size()
    if size > max(value.untyped_storage().nbytes(), _SMALL):
        raise UserError(
            f"the tensor '{name}' of '{source}' is {tuple(value.shape)} and the file does not "
            "hold so many numbers; save it with its content: tensor.clone()"
        )
