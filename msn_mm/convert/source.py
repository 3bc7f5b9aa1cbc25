"""A checkpoint from wherever the user has it: a file, a directory, an address."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msn_mm.convert.download import download
from msn_mm.convert.format import RawCheckpoint
from msn_mm.convert.torch_file import read_json, read_tensor_file
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import (
    INDEX,
    WEIGHTS,
    check_address,
    find_weights,
    is_address,
)
from msn_mm.utils.paths import user_path

# What has no place in a Hugging Face directory and lies beside, and what a raw
# checkpoint calls it: MSN's head; what only a training that goes on needs.
MSN_HEAD, MSN_TRAINING = "msn_head.safetensors", "msn_training.safetensors"
BESIDE = {"msn_head": MSN_HEAD, "msn_training": MSN_TRAINING}
PREPROCESSOR = "preprocessor_config"
METADATA = "metadata"


def read_source(source: str | Path, sha256: str | None = None, mmap: bool = True) -> RawCheckpoint:
    """Read a checkpoint, as data and onto the host.

    Args:
        source: A file (``torch.save`` in both of its formats, safetensors), the
            index of a sharded one (``*.index.json``), a Hugging Face directory,
            the directory of a training, whose newest whole checkpoint is taken,
            or an ``http(s)`` address of a file, which is kept in a cache.
        sha256: Hexadecimal hash, or the beginning of one, that the file must have.
        mmap: See :func:`~msn_mm.convert.torch_file.read_tensor_file`.

    Raises:
        UserError: There is no such thing, or it is no whole checkpoint.
    """
    name = str(source)
    if is_address(name):
        check_address(name)
        return _read_file(download(name, sha256), name, mmap)
    path = user_path(source, "checkpoint")
    if path.is_dir():
        # The engine reads its own checkpoints by this package.
        from msn_mm.engine.checkpointing import checkpoint_file

        name, _ = checkpoint_file(source)
        path = user_path(name, "checkpoint")
    if sha256:
        _check_hash(path, sha256)
    return (_read_directory if path.is_dir() else _read_file)(path, name, mmap)


def _check_hash(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise UserError(f"sha256: '{path}' is no file that could be hashed; leave the hash out")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256.lower()):
        raise UserError(
            f"'{path}' is another file than wanted: its SHA-256 is {found[: len(sha256)]} and not "
            f"{sha256.lower()}"
        )


def _read_file(path: Path, name: str, mmap: bool) -> RawCheckpoint:
    if path.name.endswith(INDEX) and path.is_file():
        return RawCheckpoint(name, _read_shards(path, mmap), _config(path.parent))
    content, metadata = read_tensor_file(path, mmap)
    if not isinstance(content, Mapping):
        raise UserError(f"'{name}' has no named tensors: it holds a {type(content).__name__}")
    config: dict[str, Any] = {}
    if path.name in WEIGHTS:
        config = _config(path.parent)
    if metadata:
        config[METADATA] = metadata
    return RawCheckpoint(name, content, config)


def _read_directory(path: Path, name: str, mmap: bool) -> RawCheckpoint:
    raw = _read_file(find_weights(path), name, mmap)
    for key, file in BESIDE.items():
        if (path / file).is_file():
            tensors, metadata = read_tensor_file(path / file, mmap)
            content = {**raw.content, key: tensors}
            raw = replace(raw, content=content, config={**raw.config, key: metadata})
    return raw


def _config(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (directory / "config.json").is_file():
        found = read_json(directory / "config.json")
    if (directory / f"{PREPROCESSOR}.json").is_file():
        found[PREPROCESSOR] = read_json(directory / f"{PREPROCESSOR}.json")
    return found


def _read_shards(index: Path, mmap: bool) -> dict[str, Any]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"'{index}' has no 'weight_map'; it is no index of a sharded checkpoint")
    tensors: dict[str, Any] = {}
    for file in sorted(set(map(str, places.values()))):
        if file != os.path.basename(file) or file in ("", ".", ".."):
            raise UserError(f"'{index}' names '{file}', which does not lie beside it")
        content, _ = read_tensor_file(index.parent / file, mmap)
        if not isinstance(content, Mapping):
            raise UserError(f"'{index.parent / file}' has no named tensors")
        tensors |= content
    missing = [name for name in places if name not in tensors]
    if missing:
        raise UserError(
            f"'{index}' names {len(missing)} tensors that its files lack, such as '{missing[0]}'"
        )
    return {name: tensors[name] for name in places}
