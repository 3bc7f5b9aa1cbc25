"""Parquet and Arrow as the hub exports them: the images of a folder, and what is wrong."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from msn_mm.datasets import (
    ArrowImages,
    EvalCrop,
    EvaluationImages,
    LabelledCrop,
    LabelledViews,
    ParquetImages,
    SampleKey,
)
from msn_mm.datasets import sampler as sampler_module
from msn_mm.errors import UserError
from tests.packed import (
    CLASSES,
    assert_equal,
    epoch,
    image_type,
    indices,
    label_of,
    loader,
    table_of,
    write_arrow,
    write_images,
    write_parquet,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = {"ParquetImages": ParquetImages, "ArrowImages": ArrowImages}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images")


def write(kind: str, folder: Path, images: list[Path]) -> Path:
    if kind == "ArrowImages":
        return write_arrow(folder, images)
    return write_parquet(folder, images)[0].parent


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_folder_is(tmp_path: Path, images: list[Path], kind: str) -> None:
    root = write(kind, tmp_path / "data", images)
    data = KINDS[kind](root, labels="label")
    assert len(data) == len(images) == 24 and data.metainfo == {"classes": CLASSES}
    for number in (*range(24), 3, 20, 4):
        info = data.get_data_info(number)
        assert info["img_packed"].read() == images[number].read_bytes()
        assert Path(info["img_path"]).name == images[number].name
        assert Path(info["img_path"]).parent.is_file()
        assert info["gt_label"] == label_of(number)
    assert "gt_label" not in KINDS[kind](root).get_data_info(0)
    assert [
        KINDS[kind](root, indices=[9, 2]).get_data_info(k)["img_path"][-7:] for k in (0, 1)
    ] == [
        "009.jpg",
        "002.jpg",
    ]


def test_the_library_of_the_hub_writes_such_files(tmp_path: Path, images: list[Path]) -> None:
    pytest.importorskip("datasets.features")  # tests/datasets is no such library
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    rows = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in images],
        "label": [label_of(k) for k in range(24)],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(tmp_path / "train-00000-of-00001.parquet", batch_size=5)
    datasets.DatasetDict(train=made, test=made).save_to_disk(tmp_path / "disk")
    own = pq.read_schema(write_parquet(tmp_path / "own", images)[0])
    assert pq.read_schema(tmp_path / "train-00000-of-00001.parquet").equals(own)
    with pytest.raises(UserError, match=r"several splits \(test, train\)"):
        ArrowImages(tmp_path / "disk")
    for data in (
        ParquetImages(tmp_path / "train-00000-of-00001.parquet", labels="label"),
        ArrowImages(tmp_path / "disk" / "train", labels="label"),
    ):
        assert data.metainfo == {"classes": CLASSES}
        assert [data.get_data_info(k)["img_packed"].read() for k in range(24)] == [
            path.read_bytes() for path in images
        ]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_views_as_the_folder(tmp_path: Path, images: list[Path], workers: int) -> None:
    folder = loader({"type": "ImageFolder", "data_root": str(images[0].parent)})
    root = {kind: str(write(kind, tmp_path / kind, images)) for kind in KINDS}
    expected = epoch(folder, 1)
    assert_equal(
        expected,
        epoch(loader({"type": "ArrowImages", "data_root": root["ArrowImages"]}, workers), 1),
    )
    # All row groups in one window: another permutation, the same views of each image.
    parquet = epoch(
        loader({"type": "ParquetImages", "data_root": root["ParquetImages"]}, workers), 1
    )
    assert sorted(indices(parquet)) == list(range(24))
    for batch in parquet:
        for place, index in enumerate(batch["data_samples"]["index"].tolist()):
            views = folder.dataset[SampleKey(index, 5, 1)]["inputs"]["target"]
            assert np.array_equal(batch["inputs"]["target"]["images"][place], views["images"][0])


def test_parquet_goes_by_row_groups(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(write_parquet(tmp_path / "data", images)[0].parent)  # six groups of four
    config = {"type": "ParquetImages", "data_root": root, "window": 2}
    reads: list[tuple[int, int]] = []
    original = pq.ParquetFile.read_row_group

    def counted(file: Any, group: int, *args: Any, **options: Any) -> Any:
        reads.append((file.metadata.num_rows, group))
        return original(file, group, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    data = loader(config)
    first = epoch(data, 0)
    assert len(reads) == 6, "a row group is read more than once"
    assert sorted(indices(first)) == list(range(24))
    windows = [{i // 4 for i in indices(first)[k : k + 8]} for k in (0, 8, 16)]
    assert [len(window) for window in windows] == [2, 2, 2]
    assert len(data.dataset.dataset._groups) == 2
    assert indices(epoch(data, 1)) != indices(first) != indices(epoch(loader(config, seed=6), 0))
    assert_equal(epoch(data, 0, skip=12), first[3:])
    for workers in (1, 2):
        assert_equal(first, epoch(loader(config, workers), 0))
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(sampler_module, "get_dist_info", lambda r=rank: (r, 2))
        ranks.append(indices(epoch(loader(config), 0)))
    assert [image for step in zip(*ranks, strict=True) for image in step] == indices(first)


def test_a_window_is_as_large_as_memory_allows(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from msn_mm.datasets import parquet_images

    root = write_parquet(tmp_path / "data", images)[0].parent
    size = max(ParquetImages(root)._bytes_of_groups)
    # Four images, and what Parquet says of the smallest and the largest.
    assert size < 7 * max(path.stat().st_size for path in images)
    monkeypatch.setattr(parquet_images, "_MEMORY", int(3.5 * size))
    assert ParquetImages(root).window == 3
    told: list[str] = []
    monkeypatch.setattr(parquet_images, "print_log", lambda text, *_: told.append(text))
    monkeypatch.setattr(parquet_images, "_MEMORY", size // 2)
    assert ParquetImages(root).window == 1 and "row_group_size=100" in told[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_image_is_replaced_and_named(
    tmp_path: Path, images: list[Path], kind: str
) -> None:
    images[9].write_bytes(images[9].read_bytes()[:200])
    root = write(kind, tmp_path / "data", images)
    batches = epoch(loader({"type": kind, "data_root": str(root)}, workers=1), 0)
    told = dict(bad for batch in batches for bad in batch["data_samples"]["unreadable"])
    (name,) = told
    assert name.endswith(("train-00000-of-00002.parquet/009.jpg", "of-00001.arrow/009.jpg"))
    with pytest.raises(UserError, match=r"009\.jpg: .*; mend or remove it"):
        EvaluationImages(KINDS[kind](root), EvalCrop(16, 16))[9]


@pytest.mark.parametrize("kind", KINDS)
def test_labelled_views_and_evaluation(tmp_path: Path, images: list[Path], kind: str) -> None:
    root = write(kind, tmp_path / "data", images)
    data = KINDS[kind](root, labels="label")
    sample = LabelledViews(data, LabelledCrop(16))[SampleKey(7, 1, 2)]
    expected = LabelledCrop(16)({"img_path": str(images[7]), "key": SampleKey(7, 1, 2)})
    assert np.array_equal(sample["inputs"], expected) and sample["data_samples"]["label"] == 1
    seen = EvaluationImages(data, EvalCrop(20, 16))
    assert seen.classes == CLASSES and seen.labels is not None
    assert seen.labels.tolist() == [label_of(k) for k in range(24)]
    assert len({seen.identity(k) for k in range(24)}) == 24
    own = KINDS[kind](root, labels="label", classes=["a", "b", "c"])
    assert own.metainfo == {"classes": ("a", "b", "c")}
    with pytest.raises(UserError, match=f"{kind} gives no labels; .*labels='label'"):
        LabelledViews(KINDS[kind](root), LabelledCrop(16))[0]


def test_plain_binary_columns_and_words_for_labels(tmp_path: Path, images: list[Path]) -> None:
    content = [path.read_bytes() for path in images[:3]]
    table = pa.table({"png": content, "kind": ["dog", "cat", "dog"], "id": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "plain.parquet")
    data = ParquetImages(tmp_path / "plain.parquet", labels="kind")
    assert data.metainfo == {"classes": ("cat", "dog")}
    assert [data.get_data_info(k)["gt_label"] for k in range(3)] == [1, 0, 1]
    assert data.get_data_info(1)["img_packed"].read() == content[1]
    assert data.get_data_info(1)["img_path"] == f"{tmp_path}/plain.parquet/1"
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as w,
    ):
        w.write_table(table)
    assert ArrowImages(tmp_path / "x.arrow").get_data_info(2)["img_packed"].read() == content[2]
    for kind, name in ((ParquetImages, "plain.parquet"), (ArrowImages, "x.arrow")):
        data = kind(tmp_path / name, labels="kind", classes=["eel", "dog", "cat"])
        assert data.metainfo == {"classes": ("eel", "dog", "cat")}
        assert [data.get_data_info(k)["gt_label"] for k in range(3)] == [1, 2, 1]
        with pytest.raises(UserError, match="image 1 has the label 'cat', which classes does not"):
            kind(tmp_path / name, labels="kind", classes=["dog", "eel"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_spawned_reads_too(tmp_path: Path, images: list[Path], kind: str) -> None:
    data = KINDS[kind](write(kind, tmp_path / "data", images), labels="label")
    data.get_data_info(3)["img_packed"].read()
    info = pickle.loads(pickle.dumps(data)).get_data_info(20)
    assert info["img_packed"].read() == images[20].read_bytes()
    assert info["img_path"].endswith("/020.jpg") and info["gt_label"] == label_of(20)


def test_rows_without_bytes(tmp_path: Path, images: list[Path]) -> None:
    cells = [
        None,
        {"bytes": None, "path": "a.jpg"},
        {"bytes": images[0].read_bytes(), "path": None},
    ]
    pq.write_table(pa.table({"image": pa.array(cells, image_type())}), tmp_path / "x.parquet")
    batches = epoch(loader({"type": "ParquetImages", "data_root": str(tmp_path)}, batch=3), 0)
    told = dict(bad for batch in batches for bad in batch["data_samples"]["unreadable"])
    assert told[f"{tmp_path}/x.parquet/a.jpg"].startswith("row 1 holds no bytes")
    assert told[f"{tmp_path}/x.parquet/0"].startswith("row 0 holds no bytes")
    assert set(indices(batches)) == {2}


BYTES = pa.array([b"x", b"y"])
TABLES = {
    "words": pa.table({"image": ["a", "b"], "label": [0, 1]}),
    "two": pa.table({"left": BYTES, "right": BYTES}),
    "unlabelled": pa.table({"image": BYTES, "label": [0, -1]}),
    "null": pa.table({"image": BYTES, "label": [0, None]}),
    "reals": pa.table({"image": BYTES, "label": [0.5, 1.0]}),
    "empty": pa.table({"image": BYTES}).slice(0, 0),
}


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("words", {}, "column 'image' is string, which holds no image files; .* none"),
        ("words", {"image": "img"}, "has no column 'img'.*Did you mean 'image'.*Columns: image, l"),
        ("two", {}, r"several columns may be the images \('left', 'right'\); name one by image="),
        ("unlabelled", {"labels": "label"}, r"row 1 has no label in 'label' \(-1\)"),
        ("null", {"labels": "label"}, r"row 1 has no label in 'label' \(None\)"),
        ("null", {"labels": "lable"}, "no column 'lable' .*Did you mean 'label'"),
        ("reals", {"labels": "label"}, "column 'label' is double; labels are whole numbers or wor"),
        ("null", {"labels": "label", "classes": []}, "row 1 has no label"),
        ("words", {"image": "label"}, "column 'label' is int64, which holds no image files"),
        ("empty", {}, "no image in .*: no rows"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_tables_that_cannot_be_used(
    tmp_path: Path, kind: str, name: str, options: dict[str, Any], line: str
) -> None:
    table = TABLES[name]
    if kind == "ParquetImages":
        pq.write_table(table, tmp_path / "x.parquet")
    else:
        with (
            pa.OSFile(str(tmp_path / "x.arrow"), "wb") as f,
            pa.ipc.new_stream(f, table.schema) as w,
        ):
            w.write_table(table)
    with pytest.raises(UserError, match=line):
        KINDS[kind](tmp_path, **options)


def test_files_that_are_not_there_or_damaged(tmp_path: Path, images: list[Path]) -> None:
    files = write_parquet(tmp_path / "data", images)
    write_parquet(tmp_path / "data", images, files=1, split="test")
    with pytest.raises(UserError, match=r"several splits \(test, train\); .*/test-\*\.parquet'"):
        ParquetImages(tmp_path / "data")
    pattern = f"{tmp_path}/data/train-*.parquet"
    assert len(ParquetImages(pattern)) == 24
    data = ParquetImages(pattern)
    pq.write_table(table_of(images[:12]), files[1], row_group_size=3)
    with pytest.raises(UserError, match=r"00001-of-00002\.parquet has changed .* start again"):
        data.get_data_info(20)["img_packed"].read()
    files[1].write_bytes(files[1].read_bytes()[:300])
    with pytest.raises(UserError, match=r"cannot read .*00001-of-00002\.parquet: .*copy it anew"):
        ParquetImages(pattern)
    pq.write_table(pa.table({"image": [b"x"]}), files[1])
    with pytest.raises(UserError, match="has its images in another form than"):
        ParquetImages(pattern)
    with pytest.raises(UserError, match=r"no Parquet file under .*looked in .* \*\.parquet"):
        ParquetImages(tmp_path / "images")
    with pytest.raises(UserError, match="no Arrow file none"):
        ArrowImages("none")
    with pytest.raises(UserError, match="no Parquet file was named"):
        ParquetImages([])
    with pytest.raises(ValueError, match="window must be 1 or more"):
        ParquetImages(pattern, window=0)
    folder = write_arrow(tmp_path / "disk", images)
    arrow = folder / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cannot read .*\.arrow: .*copy it anew"):
        ArrowImages(folder)
    os.remove(arrow)
    with pytest.raises(UserError, match=r"cannot read .*\.arrow: No such file"):
        ArrowImages(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"state\.json cannot be read"):
        ArrowImages(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'msn_mm\[parquet\]'"):
        KINDS[kind](tmp_path)
