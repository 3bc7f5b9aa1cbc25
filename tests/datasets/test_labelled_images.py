"""Evaluation data: the batch of the contract, through MMEngine's own loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from torchvision.transforms import v2

from msn_mm.datasets import EvalCrop, LabelledImages
from msn_mm.errors import UserError


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


def digits(split: str) -> dict[str, Any]:
    return {"type": "Digits", "split": split}


LEAVE = {"type": "EvalCrop", "resize": None, "crop": None, "channels": 1}


def test_batches_through_the_runner() -> None:
    data = Runner.build_dataloader(
        {
            "batch_size": 100,
            "num_workers": 0,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
            "dataset": {
                "type": "LabelledImages",
                "support": digits("pretrain"),
                "query": digits("test"),
                "transform": LEAVE,
            },
        }
    )
    assert len(data.dataset) == 1797 and data.dataset.metainfo["classes"] == tuple("0123456789")
    batches = list(data)
    batch = batches[12]  # images 1200 to 1299, across the border
    assert batch["inputs"].shape == (100, 1, 32, 32) and batch["inputs"].dtype == torch.uint8
    samples = batch["data_samples"]
    assert samples["index"].tolist() == list(range(1200, 1300))
    assert samples["support"].dtype == torch.bool and int(samples["support"].sum()) == 97
    assert samples["label"].dtype == torch.int64
    query = data.dataset.query.dataset
    labels = torch.cat([b["data_samples"]["label"] for b in batches])
    assert labels[1297:].tolist() == [query.get_data_info(i)["gt_label"] for i in range(500)]
    np.testing.assert_array_equal(
        data.dataset[1297]["inputs"][0], query.get_data_info(0)["img"][..., 0]
    )


@pytest.mark.parametrize(("mode", "size"), [("short", 40), ("square", (40, 40))])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_eval_crop_is_torchvision_on_pillow(mode: str, size: Any, interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    crop = EvalCrop(40, 32, resize_mode=mode, interpolation=interpolation)
    want = v2.Compose(
        [
            v2.Resize(size, interpolation=v2.InterpolationMode(interpolation)),
            v2.CenterCrop(32),
            v2.PILToTensor(),
        ]
    )(Image.fromarray(pixels))
    got = crop({"img": pixels})
    assert got.shape == (3, 32, 32) and torch.equal(got, want)


@pytest.mark.parametrize(
    "arguments",
    [
        {"resize": 0},
        {"crop": 0},
        {"resize": 100, "crop": 101},
        {"resize_mode": "long"},
        {"interpolation": "nearest"},
        {"channels": 0},
        {"channels": 513},
    ],
)
def test_impossible_crops(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="EvalCrop"):
        EvalCrop(**arguments)


def test_an_image_smaller_than_the_cut() -> None:
    with pytest.raises(UserError, match="8 x 8 pixels is smaller than the cut of 9"):
        EvalCrop(None, 9)({"img": np.zeros((8, 8, 3), np.uint8)})


def folder(root: Path, *names: str) -> dict[str, Any]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return {"type": "ImageFolder", "data_root": str(root), "labels": "folder"}


def test_different_classes_are_refused(tmp_path: Path) -> None:
    support = folder(tmp_path / "s", "ape/1.png", "bee/1.png")
    query = folder(tmp_path / "q", "ape/1.png", "cat/1.png")
    with pytest.raises(UserError, match="different classes, for example 'bee'"):
        LabelledImages(support, query, EvalCrop(None, None))


def test_damaged_or_unlabelled_images_are_refused(tmp_path: Path) -> None:
    support = folder(tmp_path, "ape/1.png", "ape/2.png")
    (tmp_path / "ape" / "1.png").write_text("no")
    data = LabelledImages(support, support, EvalCrop(None, None))
    with pytest.raises(UserError, match=r"cannot read image .*1\.png: not an image"):
        data[0]
    assert data[1]["data_samples"] == {"index": 1, "label": 0, "support": True}
    data = LabelledImages({**support, "labels": "none"}, support, EvalCrop(None, None))
    with pytest.raises(UserError, match="gives no labels"):
        data[1]


def test_a_strip_costs_no_more_than_its_middle() -> None:
    pixels = np.zeros((3, 30_000, 3), dtype=np.uint8)
    pixels[:, 14_990:15_010] = 200
    view = EvalCrop(resize=256, crop=224)({"img": pixels})
    assert view.shape == (3, 224, 224) and int(view.min()) == 200
    view = EvalCrop(resize=256, crop=224)({"img": pixels.transpose(1, 0, 2)})
    assert int(view.min()) == 200
    # An image that is merely long is resized whole.
    long = np.random.default_rng(0).integers(0, 256, (20, 600, 3), dtype=np.uint8)
    resized = v2.functional.resize(Image.fromarray(long), [32])
    expected = v2.functional.center_crop(resized, [32, 32])
    got = EvalCrop(resize=32, crop=32)({"img": long})
    np.testing.assert_array_equal(got, np.asarray(expected).transpose(2, 0, 1))
