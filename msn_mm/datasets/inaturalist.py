"""iNaturalist's species, from the annotations that its competitions published."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

_KEYS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id",),
}


@DATASETS.register_module()
class INaturalist(BaseDataset):
    """Images and species of an annotation file of iNaturalist 2018 or 2019.

    The label of a species is its place among the file's categories in the order
    of their ids, so the training and the validation file, which list the same
    categories, agree. Class names are what the file holds (obfuscated as first
    published); species that share a name carry their id behind it. Each sample
    has ``img_path`` and ``gt_label``, in the file's order. Whether the images
    are there shows when they are read.

    Args:
        ann_file: The JSON, below ``data_root`` unless absolute.
        data_root: Folder that holds ``train_val2018`` or ``train_val2019``.
        **kwargs: As :class:`mmengine.dataset.BaseDataset`.

    Raises:
        UserError: If the file is missing or is no such JSON, or its images and
            annotations do not belong to each other one to one.

    Source: https://github.com/visipedia/inat_comp, "Annotation Format".
    """

    def __init__(self, ann_file: str | Path, data_root: str | Path = "", **kwargs: Any) -> None:
        root = str(Path(data_root).expanduser()) if data_root else ""
        super().__init__(ann_file=str(ann_file), data_root=root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file."""
        content = self._read()
        category = _category_of_image(content, self.ann_file)
        ids = sorted(entry["id"] for entry in content["categories"])
        label = {number: k for k, number in enumerate(ids)}
        self._metainfo["classes"] = _names(content["categories"])
        root = self.data_prefix.get("img_path") or self.data_root
        # os.path: pathlib takes several times as long, which shows on 437,513 images
        return [
            {
                "img_path": os.path.join(root, entry["file_name"]),
                "gt_label": label[category[entry["id"]]],
            }
            for entry in content["images"]
        ]

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        path = Path(self.ann_file)
        if not path.is_file():
            raise UserError(
                f"no annotations at {path}; unpack {path.name}.tar.gz of "
                "https://github.com/visipedia/inat_comp there, or set data_root"
            )
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path} is no JSON ({error}); unpack it anew") from error
        for part, keys in _KEYS.items():
            entries = content.get(part) if isinstance(content, Mapping) else None
            if not isinstance(entries, list) or not entries:
                raise UserError(
                    f"{path} has no list '{part}'; give a training or validation file of "
                    "iNaturalist 2018 or 2019 (test files have no labels)"
                )
            for k, entry in enumerate(entries):
                lacking = [key for key in keys if not _has(entry, key)]
                if lacking:
                    raise UserError(
                        f"{path}: entry {k} of '{part}' has no usable '{lacking[0]}'; the file is "
                        "not in iNaturalist's format"
                    )
        for part in ("images", "categories"):
            number, times = Counter(entry["id"] for entry in content[part]).most_common(1)[0]
            if times > 1:
                raise UserError(f"{path}: '{part}' has id {number} {times} times; ids are unique")
        return {part: content[part] for part in _KEYS}


def _has(entry: Any, key: str) -> bool:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    return isinstance(value, str) if key == "file_name" else type(value) is int


def _category_of_image(content: dict[str, list[dict[str, Any]]], path: str) -> dict[int, int]:
    images = {entry["id"]: entry["file_name"] for entry in content["images"]}
    categories = {entry["id"] for entry in content["categories"]}
    found: dict[int, int] = {}
    for entry in content["annotations"]:
        image, category = entry["image_id"], entry["category_id"]
        if image not in images:
            raise UserError(f"{path}: an annotation is of image {image}, which 'images' lacks")
        if category not in categories:
            raise UserError(
                f"{path}: image {images[image]} is of category {category}, which 'categories' lacks"
            )
        if found.setdefault(image, category) != category:
            raise UserError(
                f"{path}: image {images[image]} is of two categories, {found[image]} and {category}"
            )
    bare = next((name for number, name in images.items() if number not in found), None)
    if bare is not None:
        raise UserError(
            f"{path}: image {bare} has no annotation "
            f"({len(images) - len(found)} of {len(images)} images have none)"
        )
    return found


def _names(categories: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return a name for each category in the order of their ids, no two alike."""
    ordered = sorted(categories, key=lambda entry: entry["id"])
    names = [str(entry.get("name") or f"category {entry['id']}") for entry in ordered]
    times = Counter(names)
    return tuple(
        name if times[name] == 1 else f"{name} (id {entry['id']})"
        for name, entry in zip(names, ordered, strict=True)
    )
