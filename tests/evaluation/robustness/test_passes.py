"""Finished passes on the disk, and ImageNet-C's folders."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.evaluation.finished_work import work_key
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES
from msn_mm.evaluation.robustness.finished_passes import FinishedPasses
from msn_mm.evaluation.robustness.imagenet_c import check_folders, imagenet_c_images


def test_passes_are_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "passes.json"
    passes = FinishedPasses(file)
    passes.add(work_key({"a": 1}), {"corruption": "fog", "correct": np.int64(3), "images": 4})
    again = FinishedPasses(file)
    assert again.get(work_key({"a": 1})) == {"corruption": "fog", "correct": 3, "images": 4}
    assert again.get(work_key({"a": 2})) is None and again.found == 1 and len(again) == 1
    assert work_key({"a": 1, "b": 2}) == work_key({"b": 2, "a": 1})
    assert not capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"passes.json", ".passes.json.lock"}


def test_found_are_those_of_an_earlier_run(tmp_path: Path) -> None:
    file = tmp_path / "passes.json"
    one = {"correct": 1, "images": 4}
    passes = FinishedPasses(file)
    passes.add("a", one)
    assert passes.get("a") == one and passes.found == 0
    later = FinishedPasses(file)
    later.add("b", one)
    assert all(later.get(key) == one for key in ("a", "a", "b")) and later.found == 1


def test_two_runs_keep_each_other_s_passes(tmp_path: Path) -> None:
    file = tmp_path / "passes.json"
    runs = [FinishedPasses(file), FinishedPasses(file)]
    for number in range(4):
        runs[number % 2].add(str(number), {"correct": number, "images": 4})
    assert len(FinishedPasses(file)) == 4
    # at the same time, too
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(_add_many, [(file, "x"), (file, "y")])
    assert len(FinishedPasses(file)) == 4 + 2 * 25


def _add_many(work: tuple[Path, str]) -> None:
    file, word = work
    passes = FinishedPasses(file)
    for number in range(25):
        passes.add(f"{word}{number}", {"correct": 1, "images": 1})


@pytest.mark.parametrize("how", ["torn", "empty", "other", "impossible", "version"])
def test_a_damaged_file_is_told_and_begun_anew(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "passes.json"
    FinishedPasses(file).add("key", {"correct": 3, "images": 4})
    whole = json.loads(file.read_text())
    bad = {
        "torn": file.read_text()[:-20],
        "empty": "",
        "other": "[1, 2]",
        "impossible": json.dumps({**whole, "passes": {"key": {"correct": 5, "images": 4}}}),
        "version": json.dumps({**whole, "version": 0}),
    }
    file.write_text(bad[how])
    passes = FinishedPasses(file)
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "all passes are run again" in told
    assert passes.get("key") is None
    passes.add("key", {"correct": 1, "images": 4})
    assert FinishedPasses(file).get("key") == {"correct": 1, "images": 4}


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_file_that_cannot_be_read_now_loses_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passes.json"
    passes = FinishedPasses(file)
    FinishedPasses(file).add("another run's", {"correct": 3, "images": 4})
    content, read = file.read_bytes(), Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == file:
            raise OSError(number, os.strerror(number))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        line = f"cannot read {file}: {os.strerror(number)}; see to it"
        with pytest.raises(UserError, match=re.escape(line)):
            passes.add("own", {"correct": 1, "images": 4})
        with pytest.raises(UserError, match=re.escape(line)):
            FinishedPasses(file)
    assert file.read_bytes() == content
    passes.add("own", {"correct": 1, "images": 4})
    assert len(FinishedPasses(file)) == 2


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagenet-c")
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root.parent / "image.png")
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            for wnid in ("n01440764", "n01443537"):
                folder = root / corruption / str(severity) / wnid
                folder.mkdir(parents=True)
                (folder / "1.png").hardlink_to(root.parent / "image.png")
    return root


def broken(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "c"))


def test_a_whole_tree(tree: Path) -> None:
    whole = check_folders(tree)
    assert whole.classes == ("n01440764", "n01443537") and whole.odd is None


def test_a_folder_with_fewer_images_is_named(tree: Path, tmp_path: Path) -> None:
    root = broken(tree, tmp_path)
    more = root / "fog/3/n01443537/deeper"
    more.mkdir()
    (more / "2.JPEG").hardlink_to(tree.parent / "image.png")
    (root / "snow/3/n01443537/2.txt").write_text("no image")
    found = check_folders(root)
    assert found.odd is not None
    assert found.odd.startswith(f"{more.parent} holds 2 images and ")
    assert found.odd.endswith("gaussian_noise/1/n01443537 1")


def test_what_is_no_image_fills_no_class(tree: Path, tmp_path: Path) -> None:
    root = broken(tree, tmp_path)
    image = root / "snow/3/n01443537/1.png"
    image.rename(image.with_suffix(".txt"))
    with pytest.raises(UserError, match=r"class folder .*snow/3/n01443537 holds no image"):
        check_folders(root)
    image.with_suffix(".txt").rename(image)
    image.rename(image.parent.parent / "1.png")
    with pytest.raises(UserError, match=r"image .*snow/3/1.png lies in no class folder"):
        check_folders(root)


def test_nothing_is_cut_off_a_second_time(tree: Path) -> None:
    images = imagenet_c_images(Config(), tree, "fog", 3)
    pixels = np.asarray(Image.open(tree / "fog/3/n01440764/1.png"))
    assert np.array_equal(images[0].numpy().transpose(1, 2, 0), pixels)
    small = Config({"model": {"type": "MaskedViT", "img_size": 96}})
    assert imagenet_c_images(small, tree, "fog", 3)[0].shape == (3, 96, 96)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("fog", "lacks 1 of the 15 corruptions: fog;"),
        ("zoom_blur/4", "zoom_blur lacks severity 4"),
        ("snow/5/n01443537", "has a class folder n01443537 and .*snow/5 has none"),
        ("contrast/2/n01440764/1.png", "class folder .*contrast/2/n01440764 holds no image"),
        ("gaussian_noise/1/n01440764", "class folder n01440764 and .*gaussian_noise/1 has none"),
    ],
)
def test_what_is_missing_is_one_line(gone: str, said: str, tree: Path, tmp_path: Path) -> None:
    root = broken(tree, tmp_path)
    path = root / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(UserError, match=said) as caught:
        check_folders(root)
    assert "\n" not in str(caught.value)


def test_no_class_folder_at_all(tree: Path, tmp_path: Path) -> None:
    root = broken(tree, tmp_path)
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            shutil.rmtree(root / corruption / str(severity))
            (root / corruption / str(severity)).mkdir()
    with pytest.raises(UserError, match="holds no class folder"):
        check_folders(root)
    with pytest.raises(UserError, match="lacks 15 of the 15 corruptions: gaussian_noise, shot_noi"):
        check_folders(root / "fog")
