"""Labelled data of a protocol: what a classifier learns from, and what it is asked."""

from __future__ import annotations

import dataclasses
import re
import socket
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from numpy.typing import NDArray

from msn_mm.datasets import EvalCrop, ImageFolder
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.config_check import config_mistakes
from msn_mm.engine.launch import config_directories, load_config, resolve_config_path
from msn_mm.errors import UserError, did_you_mean
from msn_mm.evaluation.transfer_view import labelled_config, model_channels, own_view, transfer_view
from msn_mm.registry import DATASETS

_MISSING = (
    "{name} names no labelled data to evaluate on: set test_dataloader to a data set of labelled "
    "support and query images (type='LabelledImages'), as configs/msn_digits.py does"
)
# Settings of a data file beside its two parts; see `transfer_view`.
_VIEW_SETTINGS = ("resize", "crop", "resize_mode", "interpolation")
# A server that says nothing for so long is taken for no internet, in seconds.
_SILENCE_S = 30.0


@dataclass(frozen=True)
class LabelledData:
    """Labelled images to learn from and to be asked about, through one view.

    Attributes:
        support: Training images.
        query: Images to classify.
        name: What the data is called in tables.

    Raises:
        UserError: A part has no labels, or a class has images in one part only.
    """

    support: EvaluationImages
    query: EvaluationImages
    name: str

    def __post_init__(self) -> None:
        present = [
            self._present(images, part)
            for images, part in ((self.support, "support"), (self.query, "query"))
        ]
        named = self.support.classes, self.query.classes
        if named[0] is not None and named[1] is not None and named[0] != named[1]:
            raise UserError(f"{self.name}: {_difference(named[0], named[1])}")
        for label in sorted(present[0] ^ present[1]):
            part, other = ("support", "query") if label in present[0] else ("query", "support")
            name = self.classes[label] if label < len(self.classes) else label
            raise UserError(
                f"{self.name}: class '{name}' has {part} images and no {other} image; give both "
                "parts the same classes"
            )

    def _present(self, images: EvaluationImages, part: str) -> set[int]:
        if images.labels is None:
            raise UserError(
                f"{self.name}: the {part} images have no labels; evaluation needs them "
                "(for a folder with one folder a class: labels='folder')"
            )
        return set(np.unique(images.labels).tolist())

    def seen_by(self, cfg: Config) -> LabelledData:
        """Return the same data through the view of another config's model; see :func:`seen_by`."""
        support, query = seen_by(self.support, cfg), seen_by(self.query, cfg)
        return dataclasses.replace(self, support=support, query=query)

    def settings(self) -> dict[str, Any]:
        """Return which data these are, for ``results.json``."""
        return {
            "data": self.name,
            "support_root": str(getattr(self.support.dataset, "data_root", None) or ""),
            "query_root": str(getattr(self.query.dataset, "data_root", None) or ""),
            "support_images": len(self.support),
            "query_images": len(self.query),
            "classes": len(self.classes),
        }

    @property
    def support_labels(self) -> NDArray[np.int64]:
        """``(n,)`` labels of the images to learn from."""
        return _labels(self.support)

    @property
    def query_labels(self) -> NDArray[np.int64]:
        """``(m,)`` labels of the images to classify."""
        return _labels(self.query)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label; their numbers where the data names none."""
        found = self.support.classes or self.query.classes
        if found is not None:
            return found
        return tuple(str(label) for label in range(int(self.support_labels.max()) + 1))


def _labels(images: EvaluationImages) -> NDArray[np.int64]:
    assert images.labels is not None  # LabelledData has looked
    return images.labels


def seen_by(images: EvaluationImages, cfg: Config) -> EvaluationImages:
    """Return images through the view of another config's model.

    That is the config's own ``EvalCrop`` where it names one, else the view that
    the images have, with the channels that the model takes.
    """
    own = own_view(cfg)
    if own is not None:
        return images.through(own)
    view = images.transform
    channels = model_channels(cfg)
    if not isinstance(view, EvalCrop) or view.channels == channels:
        return images
    return images.through(dict(type=EvalCrop.__name__, **{**view.settings(), "channels": channels}))


def part_images(cfg: Config, part: str = "all", of: str = "test") -> dict[str, EvaluationImages]:
    """Return parts of a config's labelled data by name; only those are read.

    Args:
        cfg: A config, see :func:`labelled_data`.
        part: ``"support"``, ``"query"`` or ``"all"``.
        of: ``"test"`` or ``"val"``; the other one serves where it is missing.

    Raises:
        UserError: The config names no labelled data, or it cannot be read.
        ValueError: There is no such part.
    """
    if part not in ("support", "query", "all"):
        raise ValueError(f"part must be support, query or all, not '{part}'")
    dataset = labelled_config(cfg, of)
    if dataset is None:
        raise UserError(_MISSING.format(name=cfg.filename or "the config"))
    names = ("support", "query") if part == "all" else (part,)
    with config_mistakes():
        return {
            name: EvaluationImages(build_data(dataset[name]), dataset["transform"])
            for name in names
        }


def labelled_data(cfg: Config, part: str = "test") -> LabelledData:
    """Return the labelled data that a config names, through the view that it names.

    Args:
        cfg: A config with a ``test_dataloader`` or ``val_dataloader`` of
            :class:`~msn_mm.datasets.LabelledImages`.
        part: ``"test"`` or ``"val"``; the other one serves where it is missing.

    Raises:
        UserError: The config names none, or it cannot be read.
    """
    name = Path(cfg.filename).stem if cfg.filename else "the config"
    images = part_images(cfg, "all", part)
    return LabelledData(images["support"], images["query"], name)


def transfer_data(
    data: str | Path, cfg: Config, data_root: str | Path | None = None, **view: Any
) -> LabelledData:
    """Return labelled data that a config was not made for, through a transfer's view.

    Args:
        data: A data set's name (a file of ``configs/eval``, shipped ones are
            ``cifar10``, ``cifar100``, ``inat18`` and ``inat19``), a config file
            like those, or a folder with ``train`` and ``test`` (or ``val``),
            each with one folder a class. A name comes before a folder of the
            same name; write ``./cifar10`` for the folder.
        cfg: The model's config, which gives the sizes and channels of the view.
        data_root: Where the images lie, instead of the file's ``data_root``.
        **view: Settings of :func:`~msn_mm.evaluation.transfer_view.transfer_view`,
            ``resize``, ``crop``, ``resize_mode``, ``interpolation``, ``channels``;
            None leaves one to the data's file and the config.

    Raises:
        UserError: There is no such data, or it cannot be read.

    A data file holds ``data_root`` and ``data=dict(support=..., query=...)``, two
    data sets by their configs, and may set ``resize``, ``crop``, ``resize_mode`` and
    ``interpolation`` in ``data``. A part without a ``data_root`` has the file's.
    CIFAR-10 with 4,000 labels is the balanced split of 400 images a class.
    """
    view = {key: value for key, value in view.items() if value is not None}
    path = _data_file(str(data))
    if path is not None:
        parts, settings = _parts_of_file(path, data_root)
        name = path.stem
        view = {**settings, **view}
    elif Path(data).expanduser().is_dir():
        if data_root is not None:
            raise UserError(f"data_root is for a named data set; {data} is a folder of its own")
        parts = _parts_of_folder(Path(data).expanduser())
        name = Path(data).expanduser().resolve().name
    else:
        names = _names()
        raise UserError(
            f"no data set, config or folder '{data}'.{did_you_mean(str(data), names)} "
            f"Known names: {', '.join(names)}"
        )
    transform = transfer_view(cfg, **view)
    with config_mistakes():
        support, query = (build_data(part) for part in parts)
    return LabelledData(
        EvaluationImages(support, transform), EvaluationImages(query, transform), name
    )


def build_data(config: Mapping[str, Any] | BaseDataset) -> BaseDataset:
    """Build a data set, telling in one line why one that downloads itself cannot.

    Raises:
        UserError: The download failed; names the archive and where to put it.
    """
    if not isinstance(config, Mapping):
        return config
    kind = config.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if kind is None or not hasattr(kind, "url") or not config.get("data_root"):
        return DATASETS.build(config)
    config = {**config, "data_root": str(Path(config["data_root"]).expanduser())}
    try:
        with _no_endless_silence():
            return DATASETS.build(config)
    # What mmpretrain's downloads meet; its checks of the files are assertions.
    except (OSError, EOFError, RuntimeError, AssertionError, tarfile.TarError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, AssertionError) and not reason.startswith("Download failed"):
            raise UserError(f"{kind.__name__}: {reason}") from error
        raise UserError(
            f"cannot get {kind.__name__} ({reason}): download {kind.url} and put it, as it is, "
            f"into the folder {config['data_root']}"
        ) from error


@contextmanager
def _no_endless_silence() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S if before is None else before)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _difference(support: tuple[str, ...], query: tuple[str, ...]) -> str:
    alone = sorted(set(support) ^ set(query))
    if not alone:
        return "support and query images have their classes in different orders"
    part, other = ("support", "query") if alone[0] in set(support) else ("query", "support")
    return (
        f"class '{alone[0]}' is one of the {part} images and none of the {other} images "
        f"({len(set(support))} and {len(set(query))} classes); give both parts the same classes"
    )


def _data_file(data: str) -> Path | None:
    """Return the file of a data set by name, or the file itself; None for anything else."""
    if re.fullmatch(r"[\w-]+", data):
        for directory in config_directories():
            path = directory / "eval" / f"{data}.py"
            if path.is_file():
                return path
    return resolve_config_path(data) if data.endswith(".py") or Path(data).is_file() else None


def _names() -> list[str]:
    """Return the names of the shipped data sets; other files lie beside them."""
    files = [file for folder in config_directories() for file in (folder / "eval").glob("*.py")]
    return sorted({f.stem for f in files if re.search(r"^data\s*=", f.read_text(), re.MULTILINE)})


def _parts_of_file(
    path: Path, data_root: str | Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    cfg = load_config(path)
    data = cfg.get("data")
    given = data if isinstance(data, Mapping) else {}
    parts = [given[part] for part in ("support", "query") if isinstance(given.get(part), Mapping)]
    if len(parts) != 2:
        raise UserError(
            f"{path} names no data set: it wants data=dict(support=dict(...), query=dict(...))"
        )
    unknown = sorted(set(given) - {"support", "query", *_VIEW_SETTINGS})
    if unknown:
        near = did_you_mean(unknown[0], ["support", "query", *_VIEW_SETTINGS])
        raise UserError(f"{path}: data has no setting '{unknown[0]}'.{near}")
    before = cfg.get("data_root")
    root = before if data_root is None else str(data_root)
    return (
        [_rooted(dict(part), before, root) for part in parts],
        {key: given[key] for key in _VIEW_SETTINGS if key in given},
    )


def _rooted(part: dict[str, Any], before: str | None, root: str | None) -> dict[str, Any]:
    """Give a part the data's folder; one that lies below the former folder moves along."""
    own = part.get("data_root")
    if root is None:
        return part
    if own is None:
        return {**part, "data_root": root}
    if before is not None and PurePath(own).is_relative_to(before):
        return {**part, "data_root": str(Path(root, PurePath(own).relative_to(before)))}
    return part


def _parts_of_folder(folder: Path) -> list[dict[str, Any]]:
    asked = [folder / name for name in ("test", "val")]
    # ImageNet's test folder has no classes; its val folder has
    query = next(filter(_has_folders, asked), next(filter(Path.is_dir, asked), None))
    if not (folder / "train").is_dir() or query is None:
        lacking = "train" if query is not None else "test (or val)"
        raise UserError(
            f"{folder} has no folder {lacking}; transfer wants train and test (or val) in it, "
            "each with one folder a class"
        )
    return [
        dict(type=ImageFolder.__name__, data_root=str(part), labels="folder")
        for part in (folder / "train", query)
    ]


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(
        entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()
    )
