"""MMEngine's own loading of checkpoints (``load_from``, ``resume``, ``init_cfg``), as data alone.

MMEngine calls ``torch.load`` without ``weights_only``, which an environment
variable turns into unpickling, and a resume runs the text at ``meta.config`` as
a config. Its loaders are a registry by the beginning of a path, so others take
their places here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.fileio import get_file_backend
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from msn_mm.errors import UserError

if TYPE_CHECKING:
    from msn_mm.convert.format import RawCheckpoint

_LOCAL = ("",)
_WEB = ("http://", "https://")
_STORED = (r"(\S+\:)?s3://", r"(\S+\:)?petrel://")
_UNKNOWN = ("pavi://",)


class LoadedCheckpoint(dict[str, Any]):
    """A checkpoint's content as MMEngine wants it, and the file as it was read.

    Args:
        raw: What :func:`msn_mm.convert.source.read_source` gave.
    """

    def __init__(self, raw: RawCheckpoint) -> None:
        super().__init__(raw.content)
        self.raw = raw
        meta = self.get("meta")
        if isinstance(meta, Mapping):
            # Runner.resume would run it.
            self["meta"] = {key: value for key, value in meta.items() if key != "config"}


def register() -> None:
    """Put loaders that read data alone in the places of all of MMEngine's."""
    ours: dict[tuple[str, ...], Callable] = {
        _LOCAL: load_from_data_file,
        _WEB: load_from_data_file,
        _STORED: load_from_data_store,
        _UNKNOWN: load_from_no_backend,
        ("torchvision://", "modelzoo://"): load_from_torchvision_data,
        ("openmmlab://", "open-mmlab://"): load_from_openmmlab_data,
        ("mmcls://",): load_from_mmcls_data,
    }
    for prefixes, loader in ours.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
    # A scheme that a later MMEngine adds must not load in a way of its own.
    for prefix in set(CheckpointLoader._schemes) - {p for group in ours for p in group}:
        CheckpointLoader.register_scheme(prefix, load_from_no_backend, force=True)


def load_from_data_file(filename: str, map_location: Any = None) -> LoadedCheckpoint:
    """Read whatever :func:`msn_mm.convert.source.read_source` reads, onto the host."""
    from msn_mm.convert.source import read_source

    # A training outlives the file: nothing may stay mapped to it.
    return LoadedCheckpoint(read_source(filename, mmap=False))


def load_from_data_store(filename: str, map_location: Any = None) -> LoadedCheckpoint:
    """Fetch an object of a store by MMEngine's client for it, and read it."""
    content = get_file_backend(filename, backend_args={"backend": "petrel"}).get(filename)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(filename).name)
        path.write_bytes(content)
        return load_from_data_file(str(path))


def load_from_no_backend(filename: str, map_location: Any = None) -> LoadedCheckpoint:
    """Refuse a place that nothing here fetches from.

    Raises:
        UserError: Always.
    """
    raise UserError(f"'{filename}' cannot be fetched; download it and give the file")


def load_from_torchvision_data(filename: str, map_location: Any = None) -> LoadedCheckpoint:
    """Read a published file of torchvision by its name."""
    return _published(filename, mmengine_checkpoint.get_torchvision_models())


def load_from_openmmlab_data(filename: str, map_location: Any = None) -> LoadedCheckpoint:
    """Read a published file of OpenMMLab by its name."""
    names = mmengine_checkpoint.get_external_models()
    newer = mmengine_checkpoint.get_deprecated_model_names()
    return _published(filename, {**names, **{old: names.get(new) for old, new in newer.items()}})


def load_from_mmcls_data(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read the backbone of a published file of MMClassification by its name."""
    found = _published(filename, mmengine_checkpoint.get_mmcls_models())
    return mmengine_checkpoint._process_mmcls_checkpoint(found)


def _published(filename: str, places: Mapping[str, str | None]) -> LoadedCheckpoint:
    name = filename.partition("://")[2]
    place = places.get(name)
    if not place:
        raise UserError(f"'{filename}': there is no published checkpoint of that name")
    if not place.startswith(_WEB):
        place = str(Path(mmengine_checkpoint._get_mmengine_home(), place))
    return load_from_data_file(place)
