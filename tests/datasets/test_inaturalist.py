"""INaturalist: the published annotations, and what is refused of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from msn_mm.datasets import EvalCrop, INaturalist, UnreadableImageError
from msn_mm.errors import UserError

# Ids with gaps, files and categories out of order, as nothing promises otherwise.
ANNOTATIONS: dict[str, Any] = {
    "info": {"year": 2018, "version": "1"},
    "images": [
        {"id": 70, "file_name": "train_val2018/Aves/30/b.jpg", "width": 8, "height": 6},
        {"id": 4, "file_name": "train_val2018/Plantae/9/a.jpg", "width": 8, "height": 6},
        {"id": 12, "file_name": "train_val2018/Aves/30/c.jpg", "width": 8, "height": 6},
    ],
    "categories": [
        {"id": 30, "name": "Parus major", "supercategory": "Aves"},
        {"id": 9, "name": "Bellis perennis", "supercategory": "Plantae"},
        {"id": 17, "name": "Apis mellifera", "supercategory": "Insecta"},
    ],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 9},
        {"id": 2, "image_id": 12, "category_id": 30},
        {"id": 3, "image_id": 70, "category_id": 30},
    ],
}


def write(root: Path, edit: Callable[[dict[str, Any]], Any] = lambda content: None) -> Path:
    content = json.loads(json.dumps(ANNOTATIONS))
    edit(content)
    (root / "train2018.json").write_text(json.dumps(content))
    return root


def read(root: Path) -> INaturalist:
    return INaturalist("train2018.json", root)


def test_labels_are_dense_in_the_order_of_category_ids(tmp_path: Path) -> None:
    data = read(write(tmp_path))
    assert data.metainfo["classes"] == ("Bellis perennis", "Apis mellifera", "Parus major")
    samples = [data.get_data_info(i) for i in range(len(data))]
    assert [sample["gt_label"] for sample in samples] == [2, 0, 2]
    names = [Path(sample["img_path"]).relative_to(tmp_path).as_posix() for sample in samples]
    assert names == [image["file_name"] for image in ANNOTATIONS["images"]]


def test_an_absolute_file_may_lie_elsewhere(tmp_path: Path) -> None:
    data = INaturalist(write(tmp_path) / "train2018.json", "images")
    assert data.get_data_info(0)["img_path"] == "images/train_val2018/Aves/30/b.jpg"


def test_names_are_made_unique(tmp_path: Path) -> None:
    def obfuscate(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 9}, {"id": 17, "name": "x"}, {"id": 30, "name": "x"}]

    data = read(write(tmp_path, obfuscate))
    assert data.metainfo["classes"] == ("category 9", "x (id 17)", "x (id 30)")


def test_an_image_is_missed_when_it_is_read(tmp_path: Path) -> None:
    data = read(write(tmp_path))
    image = tmp_path / "train_val2018" / "Plantae" / "9" / "a.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(image)
    assert EvalCrop(6, 6)(data.get_data_info(1)).shape == (3, 6, 6)
    with pytest.raises(UnreadableImageError, match=r"cannot read image .*30/b\.jpg: no such file"):
        EvalCrop(6, 6)(data.get_data_info(0))


def _annotation(**change: int) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"].append({"id": 4, **change})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["annotations"].pop(), r"image .*/30/b\.jpg has no annotation \(1 of 3 images"),
        (_annotation(image_id=5, category_id=9), "an annotation is of image 5, which 'images' lac"),
        (_annotation(image_id=4, category_id=8), "a.jpg is of category 8, which 'categories' lack"),
        (_annotation(image_id=4, category_id=17), "a.jpg is of two categories, 9 and 17"),
        (lambda c: c.pop("annotations"), "no list 'annotations'; give a training or validation"),
        (lambda c: c.update(images={}), "has no list 'images'"),
        (lambda c: c["images"][1].pop("file_name"), "entry 1 of 'images' has no usable 'file_name"),
        (
            lambda c: c["categories"].append({"id": "9"}),
            "entry 3 of 'categories' has no usable 'id",
        ),
        (lambda c: c["categories"].append({"id": 9}), "'categories' has id 9 2 times"),
        (lambda c: c["images"].append(c["images"][0]), "'images' has id 70 2 times"),
    ],
)
def test_other_annotations_are_refused_in_one_line(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as error:
        read(write(tmp_path, edit))
    assert str(tmp_path / "train2018.json") in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no annotations at .*unpack train2018\.json\.tar\.gz"):
        read(tmp_path)
    for text, words in (("[]", "no list 'images'"), ('{"images', "is no JSON"), ("1", "no list")):
        (tmp_path / "train2018.json").write_text(text)
        with pytest.raises(UserError, match=words):
            read(tmp_path)
    (tmp_path / "train2018.json").write_bytes(b"\x1f\x8b\xff")
    with pytest.raises(UserError, match="is no JSON"):
        read(tmp_path)


def test_a_repeated_annotation_of_the_same_category_is_no_mistake(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, _annotation(image_id=4, category_id=9)))) == 3
