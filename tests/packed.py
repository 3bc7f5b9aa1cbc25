"""The same few images as a folder, as tar shards, as Parquet and as Arrow files.

What imports this may run where the optional libraries of these formats are missing.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

CLASSES = ("cat", "dog", "eel")
OPS = [{"type": "HorizontalFlip", "p": 0.5}, {"type": "GaussianBlur", "p": 0.5}]
VIEWS = {
    "target": {"size": 16, "scale": (0.3, 1.0), "ops": OPS},
    "focal": {"size": 8, "scale": (0.05, 0.3), "num": 2, "ops": OPS[:1]},
}
# What `datasets` 5.2 writes into the schema of an Image and a ClassLabel.
HUB = {
    "info": {
        "features": {
            "image": {"_type": "Image"},
            "label": {"names": list(CLASSES), "_type": "ClassLabel"},
        }
    }
}


def write_images(folder: Path, count: int = 24) -> list[Path]:
    """Write small JPEGs whose names sort as they were written."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{k:03}.jpg" for k in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return paths


def label_of(number: int) -> int:
    return number % len(CLASSES)


def write_tars(
    folder: Path, images: Sequence[Path], each: int = 4, labels: bool = False, library: bool = False
) -> list[Path]:
    """Write images to shards of ``each``, by Python's tarfile or by webdataset itself."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, len(images), each):
        shard = folder / f"{first // each:03}.tar"
        members = []
        for number, path in enumerate(images[first : first + each], start=first):
            members.append((path.name, path.read_bytes()))
            if labels:
                members.append((f"{path.stem}.cls", str(label_of(number)).encode()))
        (_by_webdataset if library else write_tar)(shard, members)
        shards.append(shard)
    return shards


def write_tar(shard: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(shard, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _by_webdataset(shard: Path, members: Sequence[tuple[str, bytes]]) -> None:
    import webdataset

    samples: dict[str, dict[str, Any]] = {}
    for name, content in members:
        key, _, ending = name.partition(".")
        samples.setdefault(key, {"__key__": key})[ending] = content
    with webdataset.TarWriter(str(shard)) as writer:
        for sample in samples.values():
            writer.write(sample)


def image_type() -> Any:
    import pyarrow as pa

    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table_of(images: Sequence[Path], first: int = 0) -> Any:
    """A table as `datasets` exports an Image and a ClassLabel."""
    import pyarrow as pa

    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in images]
    labels = [label_of(first + k) for k in range(len(images))]
    schema = pa.schema(
        [("image", image_type()), ("label", pa.int64())],
        metadata={b"huggingface": json.dumps(HUB).encode()},
    )
    return pa.table([pa.array(cells, image_type()), pa.array(labels, pa.int64())], schema=schema)


def write_parquet(
    folder: Path, images: Sequence[Path], files: int = 2, group: int = 4, split: str = "train"
) -> list[Path]:
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    share = -(-len(images) // files)
    paths = [folder / f"{split}-{k:05}-of-{files:05}.parquet" for k in range(files)]
    for k, path in enumerate(paths):
        own = images[k * share : (k + 1) * share]
        pq.write_table(table_of(own, k * share), path, row_group_size=group)
    return paths


def write_arrow(folder: Path, images: Sequence[Path], batch: int = 5) -> Path:
    """Write what `datasets.save_to_disk` leaves, and a cache that it may leave beside."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    table = table_of(images)
    for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=batch)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def loader(dataset: dict[str, Any], workers: int = 0, batch: int = 4, seed: int = 5) -> DataLoader:
    """A training loader of views."""
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
                "dataset": dataset,
                "transform": {"type": "MultiCrop", "views": VIEWS},
            },
        },
        seed=seed,
    )


def epoch(data: DataLoader, number: int, skip: int = 0) -> list[dict[str, Any]]:
    data.sampler.set_epoch(number)
    data.sampler.skip(skip)
    return list(data)


def indices(batches: Sequence[dict[str, Any]]) -> list[int]:
    return [int(i) for batch in batches for i in batch["data_samples"]["index"]]


def assert_equal(left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> None:
    assert indices(left) == indices(right)
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a["inputs"], b["inputs"], rtol=0, atol=0)
        assert a["data_samples"]["unreadable"] == b["data_samples"]["unreadable"]
