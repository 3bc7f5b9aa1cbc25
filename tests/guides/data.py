"""Tiny data of every kind that the guides' commands read."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.deep_files import write_sensor
from tests.packed import write_arrow, write_parquet, write_tars

# Libraries of the guide to packed data.
PACKED = ("webdataset", "pyarrow")


def write_images(root: Path) -> None:
    photos = [Image.fromarray(photo).resize((160, 120)) for photo in load_sample_images().images]
    folders = {"data/my_images/2023": 4, "data/my_images/deep/er": 4}
    for part in ("support", "query"):
        folders |= {f"data/my_labels/{part}/cat": 5, f"data/my_labels/{part}/dog": 5}
    for part in ("train", "test"):
        folders |= {f"data/my_transfer/{part}/cat": 5, f"data/my_transfer/{part}/dog": 5}
    if all(map(importlib.util.find_spec, PACKED)):
        _write_packed(root, photos)
    rng = np.random.default_rng(0)
    for number, (folder, count) in enumerate(folders.items()):
        (root / folder).mkdir(parents=True)
        for k in range(count):
            photo = photos[number % 2].rotate(float(rng.uniform(-20, 20)))
            photo.save(root / folder / f"{k}.{('jpg', 'PNG', 'webp')[k % 3]}")
    write_sensor(root / "data/my_scans", 8)
    names = sorted(path.name for path in (root / "data/my_images/2023").iterdir())
    labelled = [f"2023/{name},cat" for name in names] + ["deep/er/0.jpg,dog", "deep/er/1.PNG,dog"]
    (root / "data/my_labels.csv").write_text("\n".join(["path,label", *labelled]))


def _write_packed(root: Path, photos: list[Image.Image]) -> None:
    folder = root / "photos"
    folder.mkdir()
    for k in range(18):
        photos[k % 2].rotate(k).save(folder / f"{k:03}.jpg")
    images = sorted(folder.iterdir())
    write_tars(root / "data/shards", images[:9], each=3, labels=True)
    for part in ("support", "query"):
        shards = write_tars(root / "data/labelled_shards", images, each=6, labels=True)
        for shard in shards:
            shard.rename(shard.with_name(f"{part}-{shard.name}"))
    write_parquet(root / "data/parquet", images)
    write_parquet(root / "data/parquet", images[:3], split="test")
    write_arrow(root / "data/arrow", images)
    shutil.rmtree(folder)
