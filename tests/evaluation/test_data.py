"""Labelled data of the protocols: from a config, a name, a file, a folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from msn_mm.datasets import EvalCrop, ImageFolder
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation import named_data as module
from msn_mm.evaluation.data import LabelledData, labelled_data
from msn_mm.evaluation.named_data import transfer_data
from msn_mm.utils import config_files
from msn_mm.utils.config_files import config_directories
from tests.helpers import save_cifar

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="module")
def digits() -> Config:
    return load_config("msn_digits")


@pytest.fixture(scope="module")
def paper() -> Config:
    return load_config("msn_vits16")


def folder(root: Path, *names: str, mode: str = "RGB") -> Path:
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (9, 7), k).save(root / name)
    return root


def refused(words: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(UserError, match=words) as error:
        transfer_data(*args, **kwargs)
    assert "\n" not in str(error.value)


def test_a_config_s_own_data(digits: Config) -> None:
    found = labelled_data(digits)
    assert (len(found.support), len(found.query), found.name) == (1297, 500, "msn_digits")
    assert found.classes == tuple("0123456789")
    assert found.support[0].shape == (1, 32, 32)
    np.testing.assert_array_equal(found.support[0][0], found.support.dataset[0]["img"][..., 0])
    assert found.support.labels is not None and found.support.labels[:3].tolist() == [0, 1, 2]


def test_the_part_asked_for_comes_first(digits: Config) -> None:
    cfg = Config(digits.to_dict())
    cfg.val_dataloader.dataset.query.holdout = cfg.val_dataloader.dataset.support.holdout = 400
    assert len(labelled_data(cfg, "val").query) == 400
    assert len(labelled_data(cfg, "test").query) == 500
    cfg.test_dataloader = None
    assert len(labelled_data(cfg, "test").query) == 400


def test_a_config_without_labelled_data_is_told_what_to_set() -> None:
    unlabelled = {"dataset": {"type": "ImageFolder", "data_root": "x"}}
    for content in ({}, {"test_dataloader": unlabelled, "val_dataloader": None}):
        with pytest.raises(
            UserError, match=r"names no labelled data.*set test_dataloader.*Labelled"
        ):
            labelled_data(Config(content))


def test_a_misspelt_setting_is_named(digits: Config) -> None:
    cfg = Config(digits.to_dict())
    cfg.test_dataloader.dataset.query.hold_out = 3
    with pytest.raises(UserError, match=r"no argument 'hold_out'\. Did you mean 'holdout'"):
        labelled_data(cfg)


def test_a_folder(tmp_path: Path, paper: Config, digits: Config) -> None:
    root = folder(tmp_path / "pets", "train/cat/1.png", "train/dog/1.png", "train/dog/2.png")
    folder(root, "val/cat/a/3.png", "val/dog/4.png", mode="L")
    found = transfer_data(root, paper)
    assert found.name == "pets" and found.classes == ("cat", "dog")
    assert found.support.labels is not None and found.support.labels.tolist() == [0, 1, 1]
    assert found.query.names == ["cat/a/3.png", "dog/4.png"]
    assert found.support[0].shape == found.query[0].shape == (3, 224, 224)
    assert transfer_data(root, digits).support[0].shape == (1, 32, 32)
    assert transfer_data(root, paper, resize=64, crop=None).support[0].shape == (3, 64, 64)


def test_test_comes_before_val_unless_it_has_no_classes(tmp_path: Path, paper: Config) -> None:
    root = folder(tmp_path, "train/cat/1.png", "val/cat/2.png", "test/3.png")
    assert transfer_data(root, paper).query.names == ["cat/2.png"]
    folder(root, "test/cat/4.png")
    (root / "test" / "3.png").unlink()
    assert transfer_data(root, paper).query.names == ["cat/4.png"]


def test_mistakes_in_a_folder(tmp_path: Path, paper: Config) -> None:
    root = folder(tmp_path / "pets", "other/cat/1.png")
    refused(r"has no folder test \(or val\); transfer wants train", root, paper)
    folder(root, "test/cat/1.png")
    refused("has no folder train; transfer wants", root, paper)
    folder(root, "train/cat/1.png", "train/dog/1.png")
    refused("pets: class 'dog' is one of the support images and none of the query", root, paper)
    folder(root, "test/dog/1.png", "test/eel/1.png")
    refused("pets: class 'eel' is one of the query images and none of the support", root, paper)
    folder(root, "train/eel/1.png", "train/loose.png")
    refused(r"train/loose\.png lies in no class folder; move it", root, paper)
    refused("data_root is for a named data set", root, paper, data_root="x")


def test_labels_that_one_part_lacks(tmp_path: Path) -> None:
    root = folder(tmp_path, "ape/1.png", "bee/1.png", "cat/1.png")
    images = EvaluationImages(ImageFolder(root, labels="folder"), EvalCrop(None, None))
    fewer = EvaluationImages(ImageFolder(root, labels="folder", indices=2), EvalCrop(None, None))
    none = EvaluationImages(ImageFolder(root), EvalCrop(None, None))
    assert LabelledData(fewer, fewer, "x").classes == ("ape", "bee", "cat")
    with pytest.raises(UserError, match="x: class 'cat' has support images and no query image"):
        LabelledData(images, fewer, "x")
    with pytest.raises(UserError, match="x: class 'cat' has query images and no support image"):
        LabelledData(fewer, images, "x")
    with pytest.raises(UserError, match="x: the query images have no labels"):
        LabelledData(images, none, "x")


def test_every_shipped_data_set_is_a_file_of_two_parts() -> None:
    names = config_files._data_names()
    assert {"cifar10", "cifar100", "inat18", "inat19"} <= set(names)
    for name in names:
        parts, _ = module._parts_of_file(config_directories()[0] / "eval" / f"{name}.py", "/x")
        assert [part["data_root"] for part in parts] == ["/x", "/x"]
    assert (config_files.find_data("eval/inat18.py")).samefile(config_files.find_data("inat18"))


def test_unknown_names_are_told_the_nearest(paper: Config) -> None:
    refused(
        "no data set, config or folder 'cifr10'. Did you mean 'cifar10'\\?.*inat18", "cifr10", paper
    )


def test_a_name_is_a_file_of_an_installed_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paper: Config
) -> None:
    shipped = tmp_path / "package" / "configs"
    (shipped / "_base_").mkdir(parents=True)
    (shipped / "eval").mkdir()
    (shipped / "eval" / "raw_pixels.py").write_text("model = dict(type='RawPixels')\n")
    root = folder(tmp_path / "images", "a/cat/1.png", "b/cat/2.png")
    (shipped / "eval" / "pets.py").write_text(
        f"data_root = '{root}'\n"
        "part = dict(type='ImageFolder', labels='folder')\n"
        "data = dict(support=dict(part, data_root=f'{data_root}/a'),\n"
        "            query=dict(part, data_root=f'{data_root}/b'), resize=64, crop=48)\n"
    )
    monkeypatch.setattr(config_files, "config_directories", lambda: [shipped])
    monkeypatch.chdir(tmp_path)
    found = transfer_data("pets", paper)
    assert found.name == "pets" and found.support[0].shape == (3, 48, 48)
    assert found.query.names == ["cat/2.png"]
    assert transfer_data("pets", paper, resize=32, crop=20).support[0].shape == (3, 20, 20)
    shutil.copytree(root, tmp_path / "moved")
    (tmp_path / "moved" / "b" / "cat" / "2.png").rename(tmp_path / "moved" / "b" / "cat" / "3.png")
    moved = transfer_data("pets", paper, data_root=tmp_path / "moved")
    assert moved.query.names == ["cat/3.png"], "a part below data_root moves along"
    assert config_files._data_names() == ["pets"], "a model's config is no data set"
    refused("raw_pixels.py names no data set: it wants data=dict", "raw_pixels", paper)


def test_a_file_of_ones_own(tmp_path: Path, paper: Config) -> None:
    root = folder(tmp_path, "train/cat/1.png", "test/cat/2.png")
    path = tmp_path / "mine.py"
    parts = ", ".join(
        f"{part}=dict(type='ImageFolder', data_root='{root / name}', labels='folder')"
        for part, name in (("support", "train"), ("query", "test"))
    )
    path.write_text(f"data = dict({parts})\n")
    assert transfer_data(path, paper).query.names == ["cat/2.png"]
    path.write_text(f"data = dict({parts}, resize_mod='short')\n")
    refused("data has no setting 'resize_mod'. Did you mean 'resize_mode'", path, paper)
    path.write_text("data = dict(support=dict(type='Digits'))\n")
    refused("mine.py names no data set", path, paper)


@pytest.mark.parametrize(
    ("name", "kind", "classes"), [("cifar10", "CIFAR10", 10), ("cifar100", "CIFAR100", 100)]
)
def test_cifar(
    name: str,
    kind: str,
    classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paper: Config,
    digits: Config,
) -> None:
    save_cifar(tmp_path, monkeypatch, kind)
    found = transfer_data(name, paper, data_root=tmp_path)
    batches = 5 if classes == 10 else 1
    assert (len(found.support), len(found.query)) == (2 * classes * batches, 2 * classes)
    assert len(found.classes) == classes and found.name == name
    assert found.support[0].shape == (3, 224, 224), "resized up"
    assert transfer_data(name, digits, data_root=tmp_path).query[3].shape == (1, 32, 32)
    own = transfer_data(name, load_config("msn_cifar10"), data_root=tmp_path)
    np.testing.assert_array_equal(own.query[3].permute(1, 2, 0), own.query.dataset[3]["img"])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        assert socket.getdefaulttimeout() == 30.0, (
            "a server that never answers must not be waited for"
        )
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", fail)


def test_cifar_without_internet_names_the_folder(
    tmp_path: Path, offline: None, paper: Config
) -> None:
    place = tmp_path / "cifar"
    line = (
        r"cannot get CIFAR10 \(.*name resolution.*\): download https://www\.cs\.toronto\.edu/"
        rf".*/cifar-10-python\.tar\.gz and put it, as it is, into the folder {place}$"
    )
    refused(line, "cifar10", paper, data_root=place)
    (place / "cifar-10-batches-py").mkdir(parents=True)
    (place / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"damaged")
    refused(line, "cifar10", paper, data_root=place)
    cfg = load_config("msn_cifar10", {"data_root": str(place)})
    for part in ("support", "query"):
        cfg.test_dataloader.dataset[part].data_root = str(place)
    with pytest.raises(UserError, match=line):
        labelled_data(cfg)
    assert socket.getdefaulttimeout() is None
    cfg.test_dataloader.dataset.query.split = "dev"
    cfg.test_dataloader.dataset.support = dict(type="Digits")
    with pytest.raises(UserError, match=r"^CIFAR10: The split must be one of"):
        labelled_data(cfg)


def test_a_download_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paper: Config
) -> None:
    from mmpretrain.datasets import utils

    def login_page(_: str, path: str) -> None:
        Path(path).write_text("<html>log in</html>")

    monkeypatch.setattr(utils, "download_url_to_file", login_page)
    refused(
        r"cannot get CIFAR100 \(File not found or corrupted", "cifar100", paper, data_root=tmp_path
    )


def test_an_archive_put_there_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, paper: Config
) -> None:
    from mmpretrain.datasets import CIFAR10, utils

    made = save_cifar(tmp_path / "made", monkeypatch)
    place = tmp_path / "place"
    place.mkdir()
    with tarfile.open(place / CIFAR10.filename, "w:gz") as archive:
        archive.add(made / CIFAR10.base_folder, CIFAR10.base_folder)
    refused("cannot get CIFAR10", "cifar10", paper, data_root=place)  # another archive's checksum
    monkeypatch.setattr(CIFAR10, "tgz_md5", utils.calculate_md5(str(place / CIFAR10.filename)))
    assert len(transfer_data("cifar10", paper, data_root=place).query) == 20


def test_inaturalist(tmp_path: Path, paper: Config) -> None:
    for year, name in ((2018, "inat18"), (2019, "inat19")):
        for part in ("train", "val"):
            images = [{"id": i, "file_name": f"train_val{year}/x/{part}{i}.png"} for i in (1, 2)]
            folder(tmp_path, *(image["file_name"] for image in images))
            content = {
                "images": images,
                "annotations": [{"image_id": i, "category_id": i} for i in (1, 2)],
                "categories": [{"id": i, "name": f"species {i}"} for i in (1, 2)],
            }
            (tmp_path / f"{part}{year}.json").write_text(json.dumps(content))
        found = transfer_data(name, paper, data_root=tmp_path)
        assert found.classes == ("species 1", "species 2") and len(found.query) == 2
        assert found.query.names[0] == f"train_val{year}/x/val1.png"
        assert found.query[1].shape == (3, 224, 224)
    refused(r"no annotations at data/inat18/train2018\.json", "inat18", paper)


@pytest.mark.skipif(not (SHARED / "data/cifar10_sample").is_dir(), reason="no sample")
def test_photographs(digits: Config) -> None:
    found = transfer_data(SHARED / "data" / "cifar10_sample", digits)
    assert len(found.classes) == 10 and found.name == "cifar10_sample"
    assert found.support.labels is not None and found.query.labels is not None
    assert np.bincount(found.support.labels).tolist() == [400] * 10
    assert np.bincount(found.query.labels).tolist() == [100] * 10
    assert found.query[999].shape == (1, 32, 32)
