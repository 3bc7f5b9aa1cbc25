"""Labelled training views: each a function of its key, with the label of what is shown."""
# ruff: noqa: NPY002  (augmentations of other libraries draw from the global generators)

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from msn_mm.datasets import Digits, EvalCrop, LabelledCrop, LabelledViews, SampleKey
from msn_mm.errors import UserError

CLASSES, EACH = 3, 4


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(CLASSES):
        (tmp_path / f"c{k}").mkdir()
        for i in range(EACH):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"c{k}" / f"{i}.png")
    return tmp_path


def loader(folder: Path, workers: int = 0, **options: Any) -> DataLoader:
    transform = {"type": "LabelledCrop", "size": 16, **options.pop("crop", {})}
    return Runner.build_dataloader(
        {
            "batch_size": 5,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "sampler": {"type": "KeyedSampler", "shuffle": True},
            "collate_fn": {"type": "labelled_collate"},
            "dataset": {
                "type": "LabelledViews",
                "dataset": {"type": "ImageFolder", "data_root": str(folder), "labels": "folder"},
                "transform": transform,
                **options,
            },
        },
        seed=5,
    )


def epoch(data: DataLoader, number: int) -> list[dict[str, Any]]:
    data.sampler.set_epoch(number)
    return list(data)


# As people write them: from global generators.
def _noisy(results: dict[str, Any]) -> dict[str, Any]:
    image = results["img"].astype(int)
    image += np.random.randint(0, 40) + random.randrange(40) + int(torch.randint(40, ()))
    return {**results, "img": image.clip(0, 255).astype(np.uint8)}


def test_the_batch(folder: Path) -> None:
    batches = epoch(loader(folder), 0)
    assert [len(batch["inputs"]) for batch in batches] == [5, 5, 2]
    batch = batches[0]
    assert batch["inputs"].dtype == torch.uint8 and batch["inputs"].shape == (5, 3, 16, 16)
    data = batch["data_samples"]
    assert set(data) == {"index", "label", "key", "unreadable"} and data["unreadable"] == []
    assert all(data[name].dtype == torch.int64 for name in ("index", "label", "key"))
    for batch in batches:
        data = batch["data_samples"]
        assert torch.equal(data["label"], data["index"] // EACH)
        keys = [SampleKey(i, 5, 0).view_key(0) for i in data["index"].tolist()]
        assert data["key"].tolist() == keys
    shown = [i for b in batches for i in b["data_samples"]["index"].tolist()]
    assert sorted(shown) == list(range(CLASSES * EACH))


@pytest.mark.parametrize("crop", [{}, {"augment": [_noisy]}], ids=["crop", "augmented"])
def test_the_same_bits_for_any_number_of_workers(folder: Path, crop: dict[str, Any]) -> None:
    alone = [epoch(loader(folder, crop=crop), k) for k in range(2)]
    assert not torch.equal(
        alone[0][0]["inputs"].sort(0).values, alone[1][0]["inputs"].sort(0).values
    )
    workers = loader(folder, 2, crop=crop)
    for number, batches in enumerate(alone):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        for ours, theirs in zip(batches, epoch(workers, number), strict=True):
            assert torch.equal(ours["inputs"], theirs["inputs"])
            assert torch.equal(ours["data_samples"]["label"], theirs["data_samples"]["label"])


def test_an_augmentation_draws_from_the_key_and_leaves_the_generators_alone(folder: Path) -> None:
    plain, noisy = loader(folder).dataset, loader(folder, crop={"augment": [_noisy]}).dataset
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    shifts = set()
    for index in range(len(plain)):
        for number in range(3):
            key = SampleKey(index, 0, number)
            one, other = plain[key]["inputs"], noisy[key]["inputs"]
            assert torch.equal(other, noisy[key]["inputs"])
            inner = (one < 100) & (other < 255)
            shift = (other.int() - one.int())[inner].unique()
            assert len(shift) == 1
            shifts.add(int(shift))
    assert len(shifts) > 10
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_an_augmentation_of_mmpretrain(folder: Path) -> None:
    import mmpretrain.datasets  # noqa: F401  (registers it)

    step = {"type": "RandAugment", "policies": "timm_increasing", "num_policies": 2}
    step |= {"magnitude_level": 9, "magnitude_std": 0.5, "total_level": 10}
    data = loader(folder, crop={"augment": [step]}).dataset
    key = SampleKey(3, 1, 2)
    assert torch.equal(data[key]["inputs"], data[key]["inputs"])
    plain = loader(folder).dataset
    assert not torch.equal(data[key]["inputs"], plain[key]["inputs"])


def test_crops_are_distributed_as_torchvision_cuts_them() -> None:
    # Each pixel tells its place, so that a crop's mean tells where it was cut.
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 80, axis=0)
    crop = LabelledCrop(8, channels=1)
    theirs = v2.RandomResizedCrop(8, antialias=True)
    source = torch.from_numpy(ramp).permute(2, 0, 1)
    torch.manual_seed(0)
    ours_means, theirs_means, mirrored = [], [], 0
    for index in range(3000):
        view = crop({"img": ramp, "key": SampleKey(index, 3)})[0].float()
        mirrored += bool(view[0, 0] > view[0, -1])
        row = sorted((float(view[0, 0]), float(view[0, -1])))
        ours_means.append((view.mean(), row[1] - row[0]))
        view = theirs(source)[0].float()
        theirs_means.append((view.mean(), view[0, -1] - view[0, 0]))
    ours, other = np.array(ours_means), np.array(theirs_means)
    # The place (mean, spread) and the width of the cut; 3000 draws know a mean to 1.5.
    np.testing.assert_allclose(ours.mean(0), other.mean(0), atol=2.5)
    np.testing.assert_allclose(ours.std(0), other.std(0), atol=2.0)
    assert abs(mirrored / 3000 - 0.5) < 0.04


def test_settings_of_the_crop() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = LabelledCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert torch.equal(whole({"img": image, "key": 0}).permute(1, 2, 0), torch.from_numpy(image))
    mirror = LabelledCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0)
    assert torch.equal(mirror({"img": image, "key": 0}), whole({"img": image, "key": 0}).flip(-1))
    for bad in ({"size": 0}, {"scale": (0.0, 1.0)}, {"ratio": (2, 1)}, {"flip": 2}):
        with pytest.raises(ValueError, match="LabelledCrop"):
            LabelledCrop(**bad)
    with pytest.raises(ValueError, match="bicubic"):
        LabelledCrop(interpolation="nearest")
    with pytest.raises(ValueError, match="nothing"):
        LabelledCrop(8, augment=[lambda results: None])({"img": image, "key": 0})


def test_a_part_of_the_images(folder: Path) -> None:
    chosen = [7, 2, 11]
    data = loader(folder, indices=chosen).dataset
    assert len(data) == 3
    samples = [data[i]["data_samples"] for i in range(3)]
    assert [s["index"] for s in samples] == chosen
    assert [s["label"] for s in samples] == [i // EACH for i in chosen]
    for indices, said in ([12], "image 12"), ([-1], "image -1"), ([], "no image"):
        with pytest.raises(UserError, match=said):
            loader(folder, indices=indices)


def test_a_damaged_image_gives_way_to_another_with_its_own_label(folder: Path) -> None:
    (folder / "c1" / "0.png").write_bytes(b"no image")
    data = loader(folder).dataset
    sample = data[SampleKey(EACH, 5)]
    index = sample["data_samples"]["index"]
    assert index != EACH and sample["data_samples"]["label"] == index // EACH
    assert sample["data_samples"]["unreadable"] == [(str(folder / "c1" / "0.png"), "not an image")]
    with pytest.raises(UserError, match=r"cannot read image .*0\.png: not an image"):
        loader(folder, max_tries=1).dataset[EACH]
    # Of some images alone, only some can step in.
    some = loader(folder, indices=[EACH, 5]).dataset
    assert {some[SampleKey(0, seed)]["data_samples"]["index"] for seed in range(9)} == {5}


def test_images_without_labels_are_refused(folder: Path) -> None:
    bare = {"type": "ImageFolder", "data_root": str(folder)}
    with pytest.raises(UserError, match="labels='folder'"):
        loader(folder, dataset=bare).dataset[0]


def test_a_fixed_view_and_pickling() -> None:
    fixed = LabelledViews(Digits("test"), EvalCrop(resize=None, crop=None, channels=1), max_tries=1)
    again = pickle.loads(pickle.dumps(fixed))
    for index in (0, 5):
        assert torch.equal(fixed[SampleKey(index, 1)]["inputs"], again[index]["inputs"])
    assert fixed.metainfo["classes"] is not None and fixed[0]["inputs"].dtype == torch.uint8
