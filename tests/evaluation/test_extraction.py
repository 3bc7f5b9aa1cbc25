from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from msn_mm.datasets import EvalCrop, EvaluationImages, ImageFolder
from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.evaluation import extraction
from msn_mm.evaluation.extraction import Mask, extract
from msn_mm.evaluation.feature_cache import FeatureCache
from tests.helpers import leaving_group

from .photos import AMP_TOLERANCE, COUNT, encoder, images_of, write_photos

RESNET = dict(type="mmpretrain.ResNet", depth=18, base_channels=8, stem_channels=8)
MASK = Mask(0.5, seed=3, number=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, np.ndarray]:
    """All images in one call of the encoder."""
    images = images_of(folder)
    batch = torch.stack([images[i] for i in range(COUNT)])
    keys = torch.tensor([SampleKey(i, 3, 0).view_key(2) for i in range(COUNT)])
    return {
        "whole": encoder()(batch).numpy(),
        "masked": encoder()(batch, 0.5, keys).numpy(),
        "resnet": encoder(RESNET)(batch).numpy(),
    }


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (5, 2), (32, 0), (32, 2)])
def test_batches_and_workers_do_not_change_a_bit(
    folder: Path, expected: dict[str, np.ndarray], batch_size: int, workers: int
) -> None:
    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
    images = images_of(folder)
    whole = extract(encoder(), images, **how)
    assert whole is not None and whole.dtype == np.float32
    np.testing.assert_array_equal(whole, expected["whole"])
    np.testing.assert_array_equal(extract(encoder(), images, mask=MASK, **how), expected["masked"])
    np.testing.assert_array_equal(extract(encoder(RESNET), images, **how), expected["resnet"])


def test_bfloat16_depends_on_batches_within_its_rounding(
    folder: Path, expected: dict[str, np.ndarray]
) -> None:
    images = images_of(folder)
    rough = [extract(encoder(amp=True), images, batch_size=size) for size in (1, 32)]
    norms = np.linalg.norm(expected["whole"], axis=1)
    for one, other in ((rough[0], rough[1]), (rough[0], expected["whole"])):
        assert (np.linalg.norm(one - other, axis=1) < AMP_TOLERANCE * norms).all()


def test_indices_in_any_order_and_with_repetitions(
    folder: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    indices = [7, 2, 22, 7, 0]
    images = images_of(folder, log=tmp_path / "log")
    for mask, kind in ((Mask(), "whole"), (MASK, "masked")):
        rows = extract(encoder(), images, indices, mask=mask, batch_size=2)
        np.testing.assert_array_equal(rows, expected[kind][indices])
        assert images.transform.read() == ["00", "02", "07", "22"]
    assert extract(encoder(), images, []).shape == (0, 24)
    for wrong in ([COUNT], [-1], [[1]]):
        with pytest.raises(ValueError, match="indices must be"):
            extract(encoder(), images, wrong)
    with pytest.raises(ValueError, match="batch_size 0"):
        extract(encoder(), images, batch_size=0)


def test_one_image_under_two_names_is_encoded_once_unless_masked(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "twice", 3)
    (root / "link.jpg").symlink_to(root / "01.jpg")
    images = images_of(root, log=tmp_path / "log")
    rows = extract(encoder(), images)
    assert images.transform.read() == ["00", "01", "02"]
    np.testing.assert_array_equal(rows[3], rows[1])
    masked = extract(encoder(), images, mask=MASK)
    assert images.transform.read() == ["00", "01", "02", "link"]
    assert not np.array_equal(masked[3], masked[1])  # the mask follows the index


def test_no_random_generator_is_touched(folder: Path) -> None:
    before = torch.get_rng_state(), random.getstate()
    extract(encoder(), images_of(folder), workers=2, mask=MASK)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_what_does_not_fit_is_told(folder: Path, tmp_path: Path) -> None:
    loose = EvaluationImages(ImageFolder(folder, serialize_data=False), EvalCrop(None, None))
    for workers in (0, 1):
        with pytest.raises(UserError, match="differ in size, for example 50 x 60 and 52 x 61"):
            extract(encoder(), loose, batch_size=2, workers=workers)
    root = write_photos(tmp_path / "p", 5)
    (root / "03.jpg").write_bytes((root / "03.jpg").read_bytes()[:300])
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^cannot read image .*03\.jpg: .*needs all$"):
            extract(encoder(), images_of(root), workers=workers)
    with pytest.raises(UserError, match="cannot give masked images"):
        extract(encoder(RESNET), images_of(root), mask=MASK)


def test_rounds_grow_to_a_time_and_stay_below_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(extraction.time, "monotonic", lambda: now)
    rounds = extraction._Rounds(rows_a_batch=64)
    now = 0.5
    rounds.batches = rounds.next(width=384)
    assert rounds.batches == 40  # 20 s at 0.5 s a batch
    now = 1.0
    assert rounds.next(width=384) == 8192 // 64
    assert rounds.next(width=150_528) == 1
    now = 1000.0
    assert rounds.next(width=384) == 1


@leaving_group()
def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    root = Path(folder)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    extraction._ROUND_S = 0.0  # rounds of one batch
    images, cache = images_of(root / "photos", log=root / f"log{rank}"), FeatureCache(root / "c")
    rows, reads = {}, {}
    cases = {"whole": Mask(), "masked": MASK}
    for kind, mask in cases.items():
        rows[kind] = extract(encoder(), images, mask=mask, batch_size=5, workers=rank)
        reads[kind] = images.transform.read()
    for name, indices in {"part": range(9), "all": None, "again": None}.items():
        rows[name] = extract(encoder(), images, indices, batch_size=3, cache=cache)
        reads[name] = images.transform.read()
    # of 6 images in batches of 1 the damaged one is rank 1's, an unwritable cache rank 0's
    damaged = images_of(root / "damaged")
    with pytest.raises(UserError, match=r"cannot read image .*03\.jpg"):
        extract(encoder(), damaged, batch_size=1)
    left_out: dict[int, str] = {}
    order = [5, 3, 0, 3, 1]
    rows["left out"] = extract(encoder(), damaged, order, batch_size=1, unreadable=left_out)
    assert left_out == ({1: "not an image", 3: "not an image"} if rank == 0 else {})
    (root / "file").touch()
    with pytest.raises(UserError, match="cannot write the feature cache"):
        extract(encoder(), images, batch_size=4, cache=FeatureCache(root / "file"))
    dist.barrier()
    torch.save(
        {"reads": reads, "none": [k for k, v in rows.items() if v is None]}, root / f"{rank}"
    )
    if rank == 0:
        np.savez(root / "rows.npz", **rows)


def test_two_processes_share_the_work_and_change_no_bit(
    expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos")
    (write_photos(tmp_path / "damaged", 6) / "03.jpg").write_text("no")
    # Forked: to import everything again takes longer than the test.
    torch.multiprocessing.start_processes(
        _one_of_two, args=(str(tmp_path),), nprocs=2, start_method="fork"
    )
    told = [torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2)]
    rows = np.load(tmp_path / "rows.npz")
    np.testing.assert_array_equal(rows["masked"], expected["masked"])
    for kind in ("whole", "all", "again"):
        np.testing.assert_array_equal(rows[kind], expected["whole"])
    np.testing.assert_array_equal(rows["part"], expected["whole"][:9])
    np.testing.assert_array_equal(rows["left out"][[0, 2, 4]], expected["whole"][[5, 0, 1]])
    assert np.isnan(rows["left out"][[1, 3]]).all()
    assert told[0]["none"] == [] and told[1]["none"] == list(rows)
    # every image by one process alone: batches of 5, 5, 5, 5 and 3
    every = [f"{i:02d}" for i in range(COUNT)]
    for kind in ("whole", "masked"):
        assert [len(t["reads"][kind]) for t in told] == [13, 10]
        assert sorted(told[0]["reads"][kind] + told[1]["reads"][kind]) == every
    assert sorted(told[0]["reads"]["all"] + told[1]["reads"]["all"]) == every[9:]
    assert told[0]["reads"]["again"] == told[1]["reads"]["again"] == []
