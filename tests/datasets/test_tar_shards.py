"""Tar shards: the images of a folder, in any order or streamed, and what is wrong with them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from mmengine.registry import init_default_scope

from msn_mm.datasets import (
    EvalCrop,
    EvaluationImages,
    ImageFolder,
    LabelledCrop,
    LabelledViews,
    SampleKey,
    TarShards,
)
from msn_mm.datasets import sampler as sampler_module
from msn_mm.datasets.shards import index as index_module
from msn_mm.datasets.shards import stage as stage_module
from msn_mm.datasets.shards.stage import Copied, ShardStage
from msn_mm.errors import UserError
from tests.packed import (
    assert_equal,
    epoch,
    indices,
    label_of,
    loader,
    write_images,
    write_tar,
    write_tars,
)

pytest.importorskip("webdataset")


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSN_MM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    init_default_scope("msn_mm")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images")


def config(shards: Any, **options: Any) -> dict[str, Any]:
    return {"type": "TarShards", "data_root": str(shards), **options}


@pytest.mark.parametrize("library", [False, True])
def test_it_is_what_the_folder_is(tmp_path: Path, images: list[Path], library: bool) -> None:
    write_tars(tmp_path / "shards", images, labels=True, library=library)
    data = TarShards(tmp_path / "shards", labels="cls")
    assert len(data) == len(images) == 24
    for number, path in enumerate(images):
        info = data.get_data_info(number)
        assert info["img_packed"].read() == path.read_bytes()
        assert info["img_path"] == f"{tmp_path}/shards/{number // 4:03}.tar/{path.name}"
        assert info["gt_label"] == label_of(number)
    assert "gt_label" not in TarShards(tmp_path / "shards").get_data_info(0)
    assert len(TarShards(tmp_path / "shards", indices=5)) == 5
    assert (
        TarShards(tmp_path / "shards", indices=[7, 2])
        .get_data_info(1)["img_path"]
        .endswith("000.tar/002.jpg")
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_same_views_as_the_folder(tmp_path: Path, images: list[Path], workers: int) -> None:
    write_tars(tmp_path / "shards", images)
    folder = loader({"type": "ImageFolder", "data_root": str(images[0].parent)})
    shards = loader(config(tmp_path / "shards"), workers)
    for number in range(2):
        assert_equal(epoch(folder, number), epoch(shards, number))


def test_a_stream_is_one_order_on_any_number_of_workers(tmp_path: Path, images: list[Path]) -> None:
    write_tars(tmp_path / "shards", images)
    options = {"stream": True, "window": 2, "stage_dir": str(tmp_path / "stage")}
    alone = loader(config(tmp_path / "shards", **options))
    first, second = epoch(alone, 0), epoch(alone, 1)
    assert sorted(indices(first)) == sorted(indices(second)) == list(range(24))
    assert indices(first) != indices(second)
    assert indices(epoch(loader(config(tmp_path / "shards", **options), seed=6), 0)) != indices(
        first
    )
    # Two shards of four images are mixed, then the next two.
    for batches in (first, second):
        windows = [{i // 4 for i in indices(batches)[k : k + 8]} for k in (0, 8, 16)]
        assert [len(window) for window in windows] == [2, 2, 2]
    folder = loader({"type": "ImageFolder", "data_root": str(images[0].parent)}).dataset
    for batch in first:
        for place, index in enumerate(batch["data_samples"]["index"].tolist()):
            views = folder[SampleKey(index, 5, 0)]["inputs"]["target"]
            assert np.array_equal(batch["inputs"]["target"]["images"][place], views["images"][0])
    for workers in (1, 2):
        shutil.rmtree(tmp_path / "stage")
        assert_equal(first, epoch(loader(config(tmp_path / "shards", **options), workers), 0))


def test_two_ranks_stream_the_same_images(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tars(tmp_path / "shards", images)
    options = {"stream": True, "window": 2}
    alone = indices(epoch(loader(config(tmp_path / "shards", **options)), 3))
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(sampler_module, "get_dist_info", lambda r=rank: (r, 2))
        ranks.append(indices(epoch(loader(config(tmp_path / "shards", **options)), 3)))
    assert [image for step in zip(*ranks, strict=True) for image in step] == alone


class Copies:
    """Counts which shards are copied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        original = stage_module._copy

        def counted(copied: Copied, copy: Path) -> None:
            original(copied, copy)
            self.made.append(Path(copied.shard).name)

        monkeypatch.setattr(stage_module, "_copy", counted)


def test_each_shard_is_copied_once_an_epoch_and_few_stay(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_tars(tmp_path / "shards", images, each=2)
    stage = tmp_path / "stage"
    data = loader(config(tmp_path / "shards", stream=True, window=2, stage_dir=str(stage)))
    copies = Copies(monkeypatch)
    reads = []
    for batch in iter_epoch(data, 0):
        reads += batch["data_samples"]["index"].tolist()
        assert len(list(stage.glob("*.msn_mm-copy"))) <= 8  # 2 * 2 + 2, and two on their way
        time.sleep(0.02)  # let the next window be copied
    assert sorted(set(copies.made)) == sorted(shard.name for shard in shards)
    assert len(copies.made) == len(shards)
    # Going on behind 20 of 24 images takes the two last shards, no other.
    copies.made.clear()
    shutil.rmtree(stage)
    stage.mkdir()
    rest = epoch(data, 0, skip=20)
    assert indices(rest) == reads[20:]
    assert set(copies.made) == {f"{i // 2:03}.tar" for i in reads[20:]}


def test_shards_that_were_shown_meanwhile_are_not_copied(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [Copied(str(shard)) for shard in write_tars(tmp_path / "shards", images)]
    stage, copies = ShardStage(tmp_path / "stage", keep=6), Copies(monkeypatch)
    # The thread is at work on the first when the others are no longer wanted.
    with FileLock((stage.folder / shards[0].key).with_suffix(".lock")):
        stage.prepare(shards[:4])
        wait_until(lambda: len(stage._wanted) == 3)
        stage.prepare(shards[4:])
    wait_until(lambda: len(copies.made) == 3)
    assert copies.made == ["000.tar", "004.tar", "005.tar"]


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def iter_epoch(data: Any, number: int) -> Any:
    data.sampler.set_epoch(number)
    data.sampler.skip(0)
    return iter(data)


def test_shards_from_a_command(tmp_path: Path, images: list[Path]) -> None:
    write_tars(tmp_path / "shards", images, labels=True)
    address = f"pipe:cat {tmp_path}/shards/{{000..005}}.tar"
    data = TarShards(address, labels="cls", window=1)
    assert data.windows is not None and data.data_root == address
    assert [data.get_data_info(k)["img_packed"].read() for k in range(24)] == [
        path.read_bytes() for path in images
    ]
    batches = epoch(loader(config(address, window=1), workers=2), 0)
    assert sorted(indices(batches)) == list(range(24))


def test_a_damaged_image_is_replaced_and_named(tmp_path: Path, images: list[Path]) -> None:
    images[9].write_bytes(images[9].read_bytes()[:200])
    images[14].write_bytes(b"")
    write_tars(tmp_path / "shards", images)
    for options in ({}, {"stream": True, "window": 2}):
        batches = epoch(loader(config(tmp_path / "shards", **options), workers=2), 0)
        told = dict(bad for batch in batches for bad in batch["data_samples"]["unreadable"])
        assert told.keys() == {
            f"{tmp_path}/shards/002.tar/009.jpg",
            f"{tmp_path}/shards/003.tar/014.jpg",
        }
        assert told[f"{tmp_path}/shards/003.tar/014.jpg"] == "empty file"
        assert len(indices(batches)) == 24 and not {9, 14} & set(indices(batches))
    view = EvaluationImages(TarShards(tmp_path / "shards"), EvalCrop(16, 16))
    with pytest.raises(UserError, match=r"002\.tar/009\.jpg: .*; mend or remove it"):
        view[9]


def test_labelled_views_and_evaluation(tmp_path: Path, images: list[Path]) -> None:
    write_tars(tmp_path / "shards", images, labels=True)
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\neel\n")
    data = TarShards(tmp_path / "shards", labels="cls", classes=str(names))
    labelled = LabelledViews(data, LabelledCrop(16))
    sample = labelled[SampleKey(7, 1, 2)]
    folder = LabelledViews(ImageFolder(images[0].parent), LabelledCrop(16))
    expected = folder.transform({"img_path": str(images[7]), "key": SampleKey(7, 1, 2)})
    assert np.array_equal(sample["inputs"], expected) and sample["data_samples"]["label"] == 1
    seen = EvaluationImages(data, EvalCrop(20, 16))
    assert seen.classes == ("cat", "dog", "eel") and seen.labels is not None
    assert seen.labels.tolist() == [label_of(k) for k in range(24)]
    assert seen.names[5] == "001.tar/005.jpg"
    marks = {seen.identity(k) for k in range(24)}
    assert len(marks) == 24
    os.utime(tmp_path / "shards" / "000.tar", (1, 1))
    moved = EvaluationImages(TarShards(tmp_path / "shards"), EvalCrop(20, 16))
    assert len(marks - {moved.identity(k) for k in range(24)}) == 4
    with pytest.raises(UserError, match=r"TarShards gives no labels; .*labels='cls'"):
        LabelledViews(TarShards(tmp_path / "shards"), LabelledCrop(16))[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_that_is_spawned_reads_too(
    tmp_path: Path, images: list[Path], stream: bool
) -> None:
    write_tars(tmp_path / "shards", images)
    data = TarShards(tmp_path / "shards", stream=stream)
    data.get_data_info(3)["img_packed"].read()
    copied = pickle.loads(pickle.dumps(data))
    assert copied.get_data_info(20)["img_packed"].read() == images[20].read_bytes()
    assert (copied.windows is None) == (not stream)


def test_labels_below_zero(tmp_path: Path, images: list[Path]) -> None:
    content = images[0].read_bytes()
    write_tar(tmp_path / "x.tar", [("a.jpg", content), ("a.cls", b"-1")])
    with pytest.raises(UserError, match="image 0 has the label -1; labels count from 0"):
        TarShards(tmp_path / "x.tar", labels="cls")


def test_labels_may_be_words(tmp_path: Path, images: list[Path]) -> None:
    content = images[0].read_bytes()
    words = ("dog", "cat", "dog")
    members = [
        pair
        for k, word in enumerate(words)
        for pair in ((f"{k}.jpg", content), (f"{k}.cls", word.encode()))
    ]
    write_tar(tmp_path / "words.tar", members)
    data = TarShards(tmp_path / "words.tar", labels="cls")
    assert data.metainfo == {"classes": ("cat", "dog")}
    assert [data.get_data_info(k)["gt_label"] for k in range(3)] == [1, 0, 1]
    # The same names number the words of every data set alike, whichever of them it has.
    names = ["eel", "dog", "cat"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for given in (names, tmp_path / "names.txt"):
        data = TarShards(tmp_path / "words.tar", labels="cls", classes=given)
        assert data.metainfo == {"classes": ("eel", "dog", "cat")}
        assert [data.get_data_info(k)["gt_label"] for k in range(3)] == [1, 2, 1]
    line = "image 0 has the label 'dog', which classes does not name. Did you mean 'dogs'"
    with pytest.raises(UserError, match=line):
        TarShards(tmp_path / "words.tar", labels="cls", classes=["cat", "dogs"])


def test_a_label_too_large_for_a_number(tmp_path: Path, images: list[Path]) -> None:
    content = images[0].read_bytes()
    members = [("a.jpg", content), ("a.cls", b"3"), ("b.jpg", content), ("b.cls", b"9" * 30)]
    write_tar(tmp_path / "x.tar", members)
    with pytest.raises(UserError, match=f"image 1 has the label {'9' * 30}, which is too large"):
        TarShards(tmp_path / "x.tar", labels="cls")


def test_the_index_is_kept_and_made_anew_for_what_changed(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_tars(tmp_path / "shards", images)
    seen: list[str] = []
    look_through = index_module.look_through

    def counted(shard: str, *rest: Any) -> Any:
        seen.append(Path(shard).name)
        return look_through(shard, *rest)

    monkeypatch.setattr(index_module, "look_through", counted)
    assert len(TarShards(tmp_path / "shards")) == 24 and len(seen) == 6
    assert len(TarShards(f"{tmp_path}/shards/{{000..005}}.tar")) == 24 and len(seen) == 6
    seen.clear()
    write_tar(shards[2], [(path.name, path.read_bytes()) for path in images[:3]])
    assert len(TarShards(tmp_path / "shards")) == 23 and seen == ["002.tar"]
    seen.clear()
    damaged = sorted((tmp_path / "cache" / "shards").glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert len(TarShards(tmp_path / "shards")) == 23 and len(seen) == 1
    # Another ending has another index.
    assert len(TarShards(tmp_path / "shards", image="jpg")) == 23 and len(seen) == 7


def test_an_index_that_cannot_be_kept(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tars(tmp_path / "shards", images)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MSN_MM_CACHE", str(tmp_path / "file"))
    assert len(TarShards(tmp_path / "shards")) == 24


@pytest.mark.parametrize("stream", [False, True])
def test_a_shard_that_changes_under_way(tmp_path: Path, images: list[Path], stream: bool) -> None:
    shards = write_tars(tmp_path / "shards", images)
    data = TarShards(tmp_path / "shards", stream=stream)
    write_tar(shards[1], [(path.name, path.read_bytes()) for path in images[:2]])
    with pytest.raises(UserError, match=r"001\.tar has changed since it was indexed .* start aga"):
        data.get_data_info(5)["img_packed"].read()
    assert len(TarShards(tmp_path / "shards", stream=stream)) == 22
    shards[0].unlink()
    with pytest.raises(UserError, match=r"cannot (read|copy) shard .*000\.tar"):
        data.get_data_info(0)["img_packed"].read()


def test_an_address_that_changes_is_indexed_anew(tmp_path: Path, images: list[Path]) -> None:
    shards = write_tars(tmp_path / "shards", images, each=24)
    address = f"pipe:cat {shards[0]}"
    data = TarShards(address)
    write_tar(shards[0], [(path.name, path.read_bytes()) for path in images[:5]])
    for copy in tmp_path.rglob("*.msn_mm-copy"):
        copy.unlink()
    with pytest.raises(UserError, match="has changed since it was indexed"):
        data.get_data_info(5)["img_packed"].read()
    assert len(TarShards(address)) == 5


def half(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def no_end(shard: Path) -> None:
    """Cut behind a whole member, where a tar reader sees nothing amiss."""
    shard.write_bytes(shard.read_bytes().rstrip(b"\0") + b"\0" * 100)
    content = shard.read_bytes()
    shard.write_bytes(content[: -(len(content) % 512) or None])


def garbage(shard: Path) -> None:
    """Overwrite the second header: a tar reader takes it for the end."""
    content = bytearray(shard.read_bytes())
    size = int(content[124:135], 8)
    start = 512 + -(-size // 512) * 512
    content[start : start + 512] = b"\xff" * 512
    shard.write_bytes(content)


@pytest.mark.parametrize("damage", [half, no_end, garbage])
def test_a_damaged_tar(tmp_path: Path, images: list[Path], damage: Any) -> None:
    shards = write_tars(tmp_path / "shards", images)
    damage(shards[3])
    with pytest.raises(UserError, match=r"shard .*003\.tar is no whole tar file .*copy it anew"):
        TarShards(tmp_path / "shards")


@pytest.mark.parametrize(
    ("members", "options", "line"),
    [
        (["a.txt", "b.json"], {}, "holds no image: none of its members is an image"),
        (["a.jpg"], {"image": "png"}, r"holds no image: none .* ends in \.png"),
        (["a.left.jpg", "a.right.jpg"], {}, r"'a' has 2 images \(a\.left\.jpg, .*image='left\.jpg"),
        (["a.jpg", "b.cls"], {"labels": "cls"}, r"sample 'a' has no label \(\.cls\)"),
        (["a.jpg", "a.json"], {"labels": "json"}, "no number and no word"),
    ],
)
def test_tars_that_cannot_be_used(
    tmp_path: Path, images: list[Path], members: list[str], options: dict[str, Any], line: str
) -> None:
    jpeg = images[0].read_bytes()
    contents = {"jpg": jpeg, "json": json.dumps({"a": 1}, indent=1).encode()}
    write_tar(tmp_path / "x.tar", [(m, contents.get(m.rpartition(".")[2], b"1")) for m in members])
    with pytest.raises(UserError, match=rf"shard {tmp_path}/x\.tar.*{line}"):
        TarShards(tmp_path / "x.tar", **options)


def test_of_several_images_one_is_chosen_and_odd_members_are_passed_over(
    tmp_path: Path, images: list[Path]
) -> None:
    left, right = images[0].read_bytes(), images[1].read_bytes()
    members = [("d/a.left.jpg", left), ("d/a.right.jpg", right), ("d/._a.left.jpg", b"fork")]
    write_tar(tmp_path / "x.tar", [*members, ("__meta__.jpg", b"x"), ("readme", b"x")])
    data = TarShards(tmp_path / "x.tar", image="Right.JPG")
    assert len(data) == 1 and data.get_data_info(0)["img_packed"].read() == right


@pytest.mark.parametrize(
    ("root", "line"),
    [
        ("none/{000..003}.tar", r"no tar shard none/000\.tar; set data_root"),
        ("none/*.tar", "no tar shard none/"),
        ("empty", r"no tar shard under empty; looked in all its folders for \*\.tar"),
        ("{0..3.tar", "cannot expand .*Unbalanced"),
        ("pipe:cat none.tar 2>/dev/null", "cannot copy shard pipe:cat none.tar .*exit 1"),
        ("nowhere://a.tar", "cannot copy shard nowhere://a.tar .*no gopen handler"),
        ("x.tgz", "x.tgz is compressed"),
        ([], "no tar shard was named"),
    ],
)
def test_shards_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Any, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.tgz").touch()
    with pytest.raises(UserError, match=line):
        TarShards(root)


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"pip install 'msn_mm\[shards\]'"):
        TarShards(tmp_path)


def test_no_room_for_copies(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tars(tmp_path / "shards", images)
    data = TarShards(tmp_path / "shards", stream=True, stage_dir=tmp_path / "stage")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(UserError, match=r"cannot copy shard .*000\.tar.*No space left .*stage_dir"):
        data.get_data_info(0)["img_packed"].read()
    assert not list((tmp_path / "stage").glob("*.part"))
    with pytest.raises(UserError, match=r"cannot make .*images/000\.jpg.* set stage_dir"):
        ShardStage(images[0], 2)
    with pytest.raises(ValueError, match="window must be 1 or more"):
        TarShards(tmp_path / "shards", window=0)


def test_others_files_in_the_stage_stay(tmp_path: Path, images: list[Path]) -> None:
    shards = write_tars(tmp_path / "shards", images, each=2)
    data = loader(
        config(tmp_path / "shards", stream=True, window=1, stage_dir=str(shards[0].parent))
    )
    epoch(data, 0)
    assert all(shard.exists() for shard in shards)
