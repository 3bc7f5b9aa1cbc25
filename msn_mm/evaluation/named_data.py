"""Labelled data that a config was not made for: by name, by file, by folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from mmengine.config import Config

from msn_mm.datasets import ImageFolder
from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError, did_you_mean
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.transfer_view import transfer_view
from msn_mm.utils.config_files import find_data

# Settings of a data file beside its two parts; see `transfer_view`.
_VIEW_SETTINGS = ("resize", "crop", "resize_mode", "interpolation")


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
    path = find_data(data)
    if path.is_file():
        parts, settings = _parts_of_file(path, data_root)
        name = path.stem
        view = {**settings, **view}
    else:
        if data_root is not None:
            raise UserError(f"data_root is for a named data set; {data} is a folder of its own")
        parts = _parts_of_folder(path)
        name = path.resolve().name
    transform = transfer_view(cfg, **view)
    with config_mistakes():
        support, query = (build_data(part) for part in parts)
    return LabelledData(
        EvaluationImages(support, transform), EvaluationImages(query, transform), name
    )


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
