"""MultiViewDataset through MMEngine's data loader: reproducible, and unhurt by damaged files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from PIL import Image
from torch.utils.data import DataLoader

from msn_mm.datasets import MultiCrop, MultiViewDataset, SampleKey, multi_view_collate
from msn_mm.errors import UserError

OPS = [{"type": "HorizontalFlip", "p": 0.5}, {"type": "GaussianBlur", "p": 0.5}]
VIEWS = {
    "target": {"size": 16, "scale": (0.3, 1.0), "ops": OPS},
    "anchor": {"size": 16, "scale": (0.3, 1.0), "ops": OPS},
    "focal": {"size": 8, "scale": (0.05, 0.3), "num": 3, "ops": OPS[:1]},
}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
            tmp_path / f"{k:02}.png"
        )
    return tmp_path


def loader(
    folder: Path, workers: int = 0, batch: int = 4, seed: int = 5, **options: Any
) -> DataLoader:
    return Runner.build_dataloader(
        {
            "batch_size": batch,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "drop_last": True,
            "sampler": {"type": "KeyedSampler", "shuffle": True},
            "collate_fn": {"type": "multi_view_collate"},
            "dataset": {
                "type": "MultiViewDataset",
                "dataset": {"type": "ImageFolder", "data_root": str(folder)},
                "transform": {"type": "MultiCrop", "views": VIEWS},
                **options,
            },
        },
        seed=seed,
    )


def epoch(data: DataLoader, number: int) -> list[dict[str, Any]]:
    data.sampler.set_epoch(number)
    return list(data)


def assert_equal(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a["inputs"], b["inputs"], rtol=0, atol=0)
        assert torch.equal(a["data_samples"]["index"], b["data_samples"]["index"])
        assert a["data_samples"]["unreadable"] == b["data_samples"]["unreadable"]


def test_the_batch(folder: Path) -> None:
    batches = epoch(loader(folder), 0)
    assert len(batches) == 3
    batch = batches[0]
    assert list(batch) == ["inputs", "data_samples"] and list(batch["inputs"]) == list(VIEWS)
    focal = batch["inputs"]["focal"]
    assert focal["images"].shape == (12, 3, 8, 8) and focal["images"].dtype == torch.uint8
    assert focal["key"].shape == (12,) and focal["key"].dtype == torch.int64
    assert focal["params"]["HorizontalFlip"].dtype == torch.float32
    assert batch["inputs"]["target"]["params"]["GaussianBlur"].shape == (4, 2)
    # Labels, or anything else, must not reach training.
    assert set(batch["data_samples"]) == {"index", "unreadable"}
    assert batch["data_samples"]["index"].dtype == torch.int64
    assert batch["data_samples"]["unreadable"] == []
    shown = [i for b in batches for i in b["data_samples"]["index"].tolist()]
    assert sorted(shown) == list(range(12))


def test_rows_are_view_major(folder: Path) -> None:
    data = loader(folder)
    batch = epoch(data, 1)[0]
    for row, index in enumerate(batch["data_samples"]["index"].tolist()):
        sample = data.dataset[SampleKey(index, 5, 1)]["inputs"]["focal"]
        for view in range(3):
            place = view * 4 + row
            focal = batch["inputs"]["focal"]
            np.testing.assert_array_equal(focal["images"][place].numpy(), sample["images"][view])
            assert focal["key"][place] == sample["key"][view]
            got = focal["params"]["HorizontalFlip"][place].numpy()
            np.testing.assert_array_equal(got, sample["params"]["HorizontalFlip"][view])


def test_the_same_bits_for_any_number_of_workers_and_after_a_resume(folder: Path) -> None:
    alone = loader(folder)
    epochs = [epoch(alone, k) for k in range(3)]
    for workers in (1, 2):
        data = loader(folder, workers)
        for k in range(2):
            assert_equal(epoch(data, k), epochs[k])
    # A resumed run starts at a later epoch, in new workers.
    assert_equal(epoch(loader(folder, 2), 2), epochs[2])


def test_epochs_and_seeds_differ(folder: Path) -> None:
    def by_index(batches: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
        return {
            int(i): b["inputs"]["target"]["images"][row]
            for b in batches
            for row, i in enumerate(b["data_samples"]["index"])
        }

    data = loader(folder)
    first, second, other = (
        by_index(epoch(data, 0)),
        by_index(epoch(data, 1)),
        by_index(epoch(loader(folder, seed=6), 0)),
    )
    for index in range(12):
        assert not torch.equal(first[index], second[index])
        assert not torch.equal(first[index], other[index])


# ---- damaged files --------------------------------------------------------


def damage(folder: Path) -> dict[str, str]:
    whole = (folder / "00.png").read_bytes()
    (folder / "03.png").write_bytes(whole[: len(whole) // 2])
    (folder / "07.png").write_bytes(b"")
    (folder / "08.jpg").write_text("a text")
    return {"03.png": "truncated", "07.png": "empty file", "08.jpg": "not an image"}


def test_damaged_files_are_replaced_and_named(folder: Path) -> None:
    bad = damage(folder)
    batches = epoch(loader(folder, batch=13), 0)
    found = {
        Path(path).name: reason for b in batches for path, reason in b["data_samples"]["unreadable"]
    }
    assert set(found) == set(bad)
    assert all(reason in found[name] for name, reason in bad.items())
    shown = batches[0]["data_samples"]["index"]
    assert len(shown) == 13 and batches[0]["inputs"]["target"]["images"].shape[0] == 13
    names = sorted(p.name for p in folder.iterdir())
    assert not {names[i] for i in shown.tolist()} & set(bad)
    # The replacement, too, is the same wherever it happens.
    assert_equal(epoch(loader(folder, 2, batch=13), 0), batches)


def test_a_replacement_has_views_of_its_own(folder: Path) -> None:
    data = loader(folder).dataset
    damage(folder)
    key = SampleKey(3, 5, 0)
    sample = data[key]
    index = sample["data_samples"]["index"]
    own = data[SampleKey(index, 5, 0)]
    assert (sample["inputs"]["target"]["images"] != own["inputs"]["target"]["images"]).any()
    assert sample["inputs"]["target"]["key"][0] == key.view_key(0)


def test_nothing_readable_fails_in_one_line(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_text("no")
    data = loader(tmp_path, batch=1, max_tries=4).dataset
    with pytest.raises(
        UserError, match=r"^4 images in a row cannot be read.*\.jpg \(not an image\)"
    ):
        data[SampleKey(0)]


def test_a_bug_in_a_transform_is_not_taken_for_a_damaged_image(folder: Path) -> None:
    def broken(results: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("a bug")

    data = MultiViewDataset({"type": "ImageFolder", "data_root": str(folder)}, broken)
    with pytest.raises(RuntimeError, match="a bug"):
        data[0]


# ---- other data sets ------------------------------------------------------


class TinyCIFAR(CIFAR10):
    """CIFAR-10 of a few images: MMPretrain checks sums that a fixture cannot have."""

    base_folder = "cifar"
    train_list = [["batch", None]]
    test_list = [["batch", None]]
    meta = {"filename": "meta", "key": "label_names", "md5": None}


def test_cifar10_of_mmpretrain_gives_rgb(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    planes = np.repeat(np.array([[250, 120, 10]], np.uint8), 1024, axis=1).repeat(6, axis=0)
    with (tmp_path / "cifar" / "batch").open("wb") as file:
        pickle.dump({"data": planes, "labels": [0, 1, 2, 3, 4, 5]}, file)
    with (tmp_path / "cifar" / "meta").open("wb") as file:
        pickle.dump({"label_names": list("abcdefghij")}, file)
    cifar = TinyCIFAR(data_root=str(tmp_path), split="train")
    data = MultiViewDataset(cifar, MultiCrop({"target": {"size": 16, "scale": (0.3, 1.0)}}))
    batch = multi_view_collate([data[SampleKey(i)] for i in range(6)])
    images = batch["inputs"]["target"]["images"]
    assert images.shape == (6, 3, 16, 16)
    assert images.amin((0, 2, 3)).tolist() == images.amax((0, 2, 3)).tolist() == [250, 120, 10]
    assert "label" not in batch["data_samples"]
