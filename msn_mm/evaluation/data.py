"""Labelled data of a protocol: what a classifier learns from, and what it is asked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from msn_mm.datasets import EvalCrop
from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.datasets.labels import labels_hint
from msn_mm.datasets.pixel_window import as_window
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.errors import UserError
from msn_mm.evaluation.transfer_view import (
    labelled_config,
    model_channels,
    model_window,
    own_view,
)

_MISSING = (
    "{name} names no labelled data to evaluate on: set test_dataloader to a data set of labelled "
    "support and query images (type='LabelledImages'), as configs/msn_digits.py does"
)


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
                f"({labels_hint(images.dataset)})"
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
    if not isinstance(view, EvalCrop):
        return images
    wanted = {"channels": model_channels(cfg), "window": model_window(cfg)}
    if as_window(wanted["window"], wanted["channels"]) == view.window and (
        wanted["channels"] == view.channels
    ):
        return images
    return images.through(dict(type=EvalCrop.__name__, **{**view.settings(), **wanted}))


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


def _difference(support: tuple[str, ...], query: tuple[str, ...]) -> str:
    alone = sorted(set(support) ^ set(query))
    if not alone:
        return "support and query images have their classes in different orders"
    part, other = ("support", "query") if alone[0] in set(support) else ("query", "support")
    return (
        f"class '{alone[0]}' is one of the {part} images and none of the {other} images "
        f"({len(set(support))} and {len(set(query))} classes); give both parts the same classes"
    )
