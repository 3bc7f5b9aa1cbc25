"""A config's one place of data, handed on to the data sets in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from mmengine.config import Config


def hand_on_data_root(cfg: Config) -> None:
    """Write a top-level ``data_root`` into the innermost training data set.

    Evaluation data that lay in the same place moves along, and so does a ``val``
    or ``test`` folder beside a ``train`` folder, to the new place's side; other
    data stays.
    """
    loader = cfg.get("train_dataloader")
    if cfg.get("data_root") is None or loader is None:
        return
    dataset = loader.get("dataset")
    while isinstance(dataset, Mapping) and isinstance(dataset.get("dataset"), Mapping):
        dataset = dataset["dataset"]
    if not isinstance(dataset, dict):
        return
    before, dataset["data_root"] = dataset.get("data_root"), cfg["data_root"]
    for name in ("val_dataloader", "test_dataloader"):
        _move_data(cfg.get(name), before, cfg["data_root"])


def _move_data(node: Any, before: Any, after: Any) -> None:
    if not isinstance(node, dict):
        return
    own = node.get("data_root")
    if before is not None and own is not None:
        if own == before:
            node["data_root"] = after
        elif _is_beside(PurePath(own), PurePath(before)):
            node["data_root"] = str(PurePath(after).parent / PurePath(own).name)
    for child in node.values():
        _move_data(child, before, after)


def _is_beside(folder: PurePath, train: PurePath) -> bool:
    return train.name == "train" and folder in (train.with_name("val"), train.with_name("test"))
