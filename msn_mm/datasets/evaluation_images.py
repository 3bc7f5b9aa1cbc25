"""Images through one fixed view: what every protocol on frozen features reads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from numpy.typing import NDArray
from torch.utils.data import Dataset

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.decode import UnreadableImageError
from msn_mm.errors import UserError
from msn_mm.registry import TRANSFORMS

Transform = Callable[[dict[str, Any]], torch.Tensor]

IDENTITY_BYTES = 16


@dataclass(frozen=True)
class _Listing:
    """What one pass over the annotations gives."""

    names: list[str]
    paths: list[str | None]
    labels: NDArray[np.int64] | None
    packed: bool


class EvaluationImages(Dataset):
    """The images of a data set, each through the same fixed view.

    Args:
        dataset: Data set or its config; ``get_data_info`` gives ``img`` (uint8
            (H, W, C), RGB), ``img_path`` or ``img_packed``, and ``gt_label`` where there
            are labels.
        transform: From a sample to uint8 (C, H, W), or its config
            (:class:`~msn_mm.datasets.EvalCrop`).
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        transform: Mapping[str, Any] | Transform,
    ) -> None:
        self.dataset = build_data(dataset)
        self.transform = (
            TRANSFORMS.build(transform) if isinstance(transform, Mapping) else transform
        )
        self._listing: _Listing | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Data workers read pixels only; a million names need not travel to each.
        return {**self.__dict__, "_listing": None}

    def through(self, transform: Mapping[str, Any] | Transform) -> EvaluationImages:
        """Return the same images through another view; annotations are read once for both."""
        other = EvaluationImages(self.dataset, transform)
        other._listing = self._listed()
        return other

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return the view of one image, uint8 (C, H, W).

        Raises:
            UserError: If the image is damaged: an evaluation never replaces an
                image in silence.
        """
        return self.view(self.dataset.get_data_info(int(index)))

    def view(self, info: dict[str, Any]) -> torch.Tensor:
        """Return the view of what the data set's ``get_data_info`` gave; see ``[]``."""
        try:
            return self.transform(info)
        except UnreadableImageError as error:
            raise UserError(f"{error}; mend or remove it, an evaluation needs all") from error

    def view_settings(self) -> dict[str, Any]:
        """Return the settings of the view, or its description where it has none to tell."""
        settings = getattr(self.transform, "settings", None)
        return dict(settings()) if callable(settings) else {"transform": repr(self.transform)}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information of the data set."""
        return dict(self.dataset.metainfo)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes by label, where the data set knows them."""
        found = self.dataset.metainfo.get("classes")
        return None if found is None else tuple(found)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """``(n,)`` labels; ``None`` when the data set has none.

        Raises:
            UserError: If some images have a label and others none.
        """
        return self._listed().labels

    @property
    def names(self) -> list[str]:
        """A unique name an image.

        Its path below ``data_root`` with forward slashes, or its zero-padded
        number when it lies in memory. A file that is listed again gets its
        number behind its name.
        """
        return self._listed().names

    @property
    def paths(self) -> list[str | None]:
        """The image files as the data set names them; ``None`` for an image in memory."""
        return self._listed().paths

    def identity(self, index: int) -> bytes:
        """Return 16 bytes that tell which image this is, whatever the view.

        For a file its resolved path, size and times of change (a copy that keeps the
        time of its original has a later one of its own); for an image inside a
        larger file that file's, and the place in it; for an image in memory its pixels.

        Raises:
            UserError: If the file is not there.
        """
        path = self.paths[index]
        if path is None:
            pixels = np.ascontiguousarray(self.dataset.get_data_info(int(index))["img"])
            kind = f"{pixels.dtype}{pixels.shape}".encode()
            digest = blake2b(kind, digest_size=IDENTITY_BYTES, person=b"pixels")
            digest.update(pixels.data)
            return digest.digest()
        if self._listed().packed:
            mark = self.dataset.get_data_info(int(index))["img_packed"].mark()
            return _digest(mark, b"packed")
        try:
            status = os.stat(path)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise UserError(f"cannot read image {path}: {reason}") from error
        what = f"{_resolved(path)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
        return _digest(what, b"file")

    def full_init(self) -> None:
        """Load the annotations, if they were told to wait."""
        self.dataset.full_init()

    def _listed(self) -> _Listing:
        if self._listing is None:
            self._listing = self._list()
        return self._listing

    def _list(self) -> _Listing:
        n = len(self.dataset)
        digits = len(str(max(n - 1, 0)))
        root = str(getattr(self.dataset, "data_root", None) or "")
        names: list[str] = []
        paths: list[str | None] = []
        labels: list[int] = []
        packed = False
        for i in range(n):
            info = self.dataset.get_data_info(i)
            in_memory = info.get("img") is not None
            paths.append(None if in_memory else str(info["img_path"]))
            names.append(str(i).zfill(digits) if in_memory else _below(str(info["img_path"]), root))
            packed = packed or "img_packed" in info
            if "gt_label" in info:
                labels.append(int(info["gt_label"]))
        if labels and len(labels) != n:
            raise UserError(
                f"{type(self.dataset).__name__} gives a label to {len(labels)} of {n} images; "
                "give all of them one, or none"
            )
        found = np.array(labels, dtype=np.int64) if labels else None
        return _Listing(_unique(names), paths, found, packed)


def _digest(what: str, kind: bytes) -> bytes:
    text = what.encode(errors="surrogateescape")
    return blake2b(text, digest_size=IDENTITY_BYTES, person=kind).digest()


def _below(path: str, root: str) -> str:
    prefix = root.rstrip("/\\")
    inner = path[len(prefix) :] if prefix and path.startswith(prefix) else path
    is_inner = inner is not path and inner[:1] in ("/", "\\")
    return Path(inner.lstrip("/\\") if is_inner else path).as_posix()


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) == len(names):
        return names
    counts = Counter(names)
    # A name that is there once stays what it is, wherever it stands.
    seen = {name for name, count in counts.items() if count == 1}
    unique = []
    for i, name in enumerate(names):
        if counts[name] == 1:
            unique.append(name)
            continue
        while name in seen:
            name = f"{name}#{i}"
        unique.append(name)
        seen.add(name)
    return unique


def _resolved(path: str) -> str:
    # Resolving every part of every path would take longer than its stat.
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(_resolved_folder(folder), name)


@lru_cache(maxsize=4096)
def _resolved_folder(folder: str) -> str:
    return os.path.realpath(folder)
