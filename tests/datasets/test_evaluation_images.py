from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from PIL import Image

from msn_mm.datasets import Digits, EvalCrop, EvaluationImages, ImageFolder
from msn_mm.errors import UserError
from msn_mm.registry import TRANSFORMS

VIEW = EvalCrop(None, None)


def _folder(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(root / name)
    return root


def test_names_labels_and_classes_of_a_folder(tmp_path: Path) -> None:
    root = _folder(tmp_path, "bee/x.png", "ape/2.png", "ape/deep/1.png")
    config = {"type": "ImageFolder", "data_root": str(root), "labels": "folder"}
    images = EvaluationImages(config, {"type": "EvalCrop", "resize": None, "crop": None})
    assert images.names == ["ape/2.png", "ape/deep/1.png", "bee/x.png"]
    assert images.paths == [str(root / name) for name in images.names]
    assert images.labels is not None and images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 1] and images.classes == ("ape", "bee")
    assert [int(images[i][0, 0, 0]) for i in range(3)] == [1, 2, 0]

    plain = EvaluationImages(ImageFolder(root), VIEW)
    assert plain.labels is None and plain.classes is None and len(plain) == 3


def test_images_in_memory_have_numbers_and_their_pixels_as_identity() -> None:
    images = EvaluationImages(Digits("test", indices=12), EvalCrop(None, None, channels=1))
    assert images.names[:2] == ["00", "01"] and images.paths == [None] * 12
    assert len({images.identity(i) for i in range(12)}) == 12
    other = EvaluationImages(Digits("all", indices=[1297, 1298]), VIEW)
    assert [other.identity(i) for i in (0, 1)] == [images.identity(i) for i in (0, 1)]


def test_a_file_listed_twice_has_two_names_and_one_identity(tmp_path: Path) -> None:
    path = str(_folder(tmp_path, "a.png") / "a.png")

    class Twice(BaseDataset):
        def load_data_list(self) -> list[dict[str, Any]]:
            return [{"img_path": path}, {"img_path": path}]

    images = EvaluationImages(Twice(data_root=str(tmp_path)), VIEW)
    assert images.names == ["a.png", "a.png#1"]
    assert images.identity(0) == images.identity(1)


def test_identity_follows_the_file_and_not_its_name(tmp_path: Path) -> None:
    root = _folder(tmp_path / "real", "a.png", "b.png")
    (tmp_path / "link").symlink_to(root)
    (root / "c.png").symlink_to(root / "a.png")
    images = EvaluationImages(ImageFolder(root), VIEW)
    linked = EvaluationImages(ImageFolder(tmp_path / "link"), VIEW)
    before = [images.identity(i) for i in range(3)]
    assert len(before[0]) == 16 and before[0] != before[1] and before[0] == before[2]
    assert [linked.identity(i) for i in range(3)] == before

    status = os.stat(root / "b.png")
    os.utime(root / "b.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert images.identity(1) != before[1] and images.identity(0) == before[0]
    (root / "a.png").write_bytes((root / "a.png").read_bytes() + b"\0")
    os.utime(root / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert images.identity(0) != before[0]
    (root / "b.png").unlink()
    with pytest.raises(UserError, match=r"cannot read image .*b\.png: no such file"):
        images.identity(1)


def test_a_damaged_image_and_half_a_set_of_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    images = EvaluationImages(ImageFolder(tmp_path), VIEW)
    with pytest.raises(UserError, match=r"a\.png: not an image; mend or remove it"):
        images[0]

    class Half(BaseDataset):
        def load_data_list(self) -> list[dict[str, Any]]:
            return [{"img_path": "a", "gt_label": 0}, {"img_path": "b"}]

    with pytest.raises(UserError, match="a label to 1 of 2 images"):
        _ = EvaluationImages(Half(), VIEW).labels


def test_it_travels_to_a_worker_without_its_names() -> None:
    images = EvaluationImages(Digits("test", indices=3), EvalCrop(None, None, channels=1))
    assert len(images.names) == 3
    there = pickle.loads(pickle.dumps(images))
    assert there._listing is None and images._listing is not None
    assert torch.equal(there[2], images[2]) and there.names == images.names


def test_the_settings_of_a_view_build_it_again() -> None:
    view = EvalCrop(40, 32, resize_mode="square", channels=1, interpolation="bicubic")
    again = TRANSFORMS.build({"type": "EvalCrop", **view.settings()})
    assert again.settings() == view.settings()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 1), dtype=np.uint8)
    assert torch.equal(again({"img": pixels}), view({"img": pixels}))


def test_names_stay_unique_whatever_they_look_like() -> None:
    from msn_mm.datasets.evaluation_images import _unique

    names = ["a", "a#2", "a", "b", "a"]
    unique = _unique(names)
    assert len(set(unique)) == 5 and unique[1] == "a#2" and unique[3] == "b"
    assert all(given.startswith(name) for given, name in zip(unique, names, strict=True))
