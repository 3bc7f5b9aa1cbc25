"""Time the same images as a folder, tar shards, Parquet and Arrow, raw and through MultiCrop.

    python benchmarks/data_formats.py [--images DIR] [--count 600] [--workers 1] [--json FILE]

Every format takes its turn in each round, so a change of the machine's speed
touches all; medians are of the rounds, ratios are to the folder of the same round.
*Raw* reads the encoded bytes of each image once, in this process, in the order
of training: what a format itself costs. *Views* is an epoch of pre-training's
data loader, its workers started before the clock: MSN's 12 views an image. Processor time is
that of all processes; memory is what each worker has for itself at most (private
pages; files that are mapped or cached by the system are not in it). The page cache is
warm, as with data that fits in memory; a streamed shard is copied anew in each round.
Without ``--images`` the files are JPEGs of 500 x 375 pixels, the usual size in ImageNet.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from extraction import write_images
from torch.utils.data import DataLoader

from msn_mm.datasets import (
    ArrowImages,
    ImageFolder,
    KeyedSampler,
    MultiViewDataset,
    ParquetImages,
    TarShards,
    multi_view_collate,
)
from msn_mm.engine.launch import load_config
from msn_mm.utils.results import write_atomically

FOLDER = "folder"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_tars(folder: Path, paths: list[Path], each: int) -> None:
    """Write shards of ``each`` images."""
    folder.mkdir()
    for first in range(0, len(paths), each):
        with tarfile.open(folder / f"{first // each:06}.tar", "w") as tar:
            for number, path in enumerate(paths[first : first + each], start=first):
                member = tarfile.TarInfo(f"{number:06}{path.suffix.lower()}")
                content = path.read_bytes()
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_tables(folder: Path, paths: list[Path], each: int, group: int) -> None:
    """Write Parquet and Arrow files of ``each`` images, ``group`` to a row group."""
    folder.mkdir()
    for first in range(0, len(paths), each):
        cells = [{"bytes": p.read_bytes(), "path": p.name} for p in paths[first : first + each]]
        table = pa.table({"image": pa.array(cells, IMAGE)})
        pq.write_table(table, folder / f"{first // each:06}.parquet", row_group_size=group)
        with (
            pa.OSFile(str(folder / f"{first // each:06}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=group)


class AnyOrder:
    """A data set without its windows: shuffled over all images."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.metainfo: dict[str, Any] = {}
        self.get_data_info = dataset.get_data_info

    def __len__(self) -> int:
        return len(self.dataset)


def read_raw(dataset: Any, epoch: int) -> int:
    """Read the bytes of every image in the order of an epoch; return how many bytes."""
    sampler = KeyedSampler(dataset, seed=0)
    sampler.set_epoch(epoch)
    total = 0
    for key in sampler:
        info = dataset.get_data_info(key)
        packed = info.get("img_packed")
        total += len(Path(info["img_path"]).read_bytes() if packed is None else packed.read())
    return total


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def processor_seconds(pids: list[int]) -> float:
    """Processor time so far of this process and of these workers."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def one_epoch(loader: DataLoader, epoch: int) -> dict[str, float]:
    """Run an epoch of a loader whose workers live already; return what it took."""
    loader.sampler.set_epoch(epoch)
    batches = iter(loader)
    pids = [worker.pid for worker in getattr(batches, "_workers", [])]
    begun, wall = processor_seconds(pids), time.perf_counter()
    images, memory = 0, 0
    for number, batch in enumerate(batches):
        images += len(batch["data_samples"]["index"])
        if number % 4 == 0:
            memory = max([memory, *map(private_bytes, pids)])
    wall = time.perf_counter() - wall
    used = processor_seconds(pids) - begun
    return {"images_per_s": images / wall, "ms": 1e3 * used / images, "MiB": memory / 2**20}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of images instead of the crops")
    parser.add_argument("--count", type=int, default=600, help="images of one pass")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--shard", type=int, default=100, help="images of a tar, of a table")
    parser.add_argument("--group", type=int, default=100, help="images of a row group")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--raw-rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.environ["MSN_MM_CACHE"] = str(place / "cache")
        if args.images is None:
            (place / "made").mkdir()
            write_images(place / "made", args.count)
        given = ImageFolder(args.images or place / "made")
        paths = [Path(given.get_data_info(k)["img_path"]) for k in range(len(given))][: args.count]
        (place / "folder").mkdir()
        for number, path in enumerate(paths):
            shutil.copy(path, place / "folder" / f"{number:06}{path.suffix.lower()}")
        write_tars(place / "tars", paths, args.shard)
        write_tables(place / "tables", paths, args.shard, args.group)
        stage = place / "stage"
        begun = time.process_time()
        TarShards(place / "tars")
        index = (time.process_time() - begun) / len(paths)
        makers: dict[str, Callable[[], Any]] = {
            FOLDER: lambda: ImageFolder(place / "folder"),
            "tar": lambda: TarShards(place / "tars"),
            "tar, streamed": lambda: TarShards(place / "tars", stream=True, stage_dir=stage),
            "Parquet": lambda: ParquetImages(place / "tables"),
            "Parquet, any order": lambda: AnyOrder(ParquetImages(place / "tables", window=1)),
            "Arrow": lambda: ArrowImages(place / "tables"),
        }
        transform = load_config("configs/msn_folder.py").train_dataloader.dataset.transform
        raw: dict[str, list[float]] = {name: [] for name in makers}
        views: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
        loaders = {}
        for name, make in makers.items():
            data = MultiViewDataset(make(), transform)
            loaders[name] = DataLoader(
                data,
                args.batch,
                sampler=KeyedSampler(data, seed=0),
                num_workers=args.workers,
                persistent_workers=args.workers > 0,
                collate_fn=multi_view_collate,
            )
            one_epoch(loaders[name], 0)
        for turn in range(args.raw_rounds):
            sizes = set()
            for name, make in makers.items():
                shutil.rmtree(stage, ignore_errors=True)
                data = make()
                begun = time.process_time()
                sizes.add(read_raw(data, turn))
                raw[name].append(1e6 * (time.process_time() - begun) / len(paths))
            assert len(sizes) == 1, "the formats hold different bytes"
        for turn in range(args.rounds):
            for name, loader in loaders.items():
                for copy in stage.glob("*.msn_mm-copy"):
                    copy.unlink()
                views[name].append(one_epoch(loader, turn + 1))
        kib = sum(path.stat().st_size for path in paths) / len(paths) / 2**10

    print(
        f"{len(paths)} images of {kib:.0f} KiB, {args.shard} to a file and {args.group} to a row "
        f"group, {args.workers} workers; index of the tars {1e6 * index:.0f} us an image, once"
    )
    print(f"{'':20}raw: us an image  views: images/s  core-ms an image  of folder  MiB a worker")
    found = {}
    for name in makers:
        ratios = [
            ours["ms"] / theirs["ms"]
            for ours, theirs in zip(views[name], views[FOLDER], strict=True)
        ]
        found[name] = {
            "raw_us": statistics.median(raw[name]),
            "images_per_s": statistics.median(turn["images_per_s"] for turn in views[name]),
            "core_ms": statistics.median(turn["ms"] for turn in views[name]),
            "core_ratio": statistics.median(ratios),
            "core_ratios": ratios,
            "worker_mib": max(turn["MiB"] for turn in views[name]),
        }
        row = found[name]
        print(
            f"{name:20}{row['raw_us']:16.0f}{row['images_per_s']:17.1f}{row['core_ms']:18.1f}"
            f"{row['core_ratio']:11.3f}{row['worker_mib']:14.0f}"
        )
    if args.json is not None:
        settings = {name: str(value) for name, value in vars(args).items()}
        content = {"settings": settings, "index_us": 1e6 * index, "formats": found}
        write_atomically(args.json, (json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
