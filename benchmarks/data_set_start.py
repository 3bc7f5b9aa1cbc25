"""Time the start of a data set of many images, and weigh it in the main process and its workers.

    python benchmarks/data_set_start.py [--images 1000000] [--workers 0 2 4 8] [--json FILE]

Makes N files in a temporary folder, 1,000 a folder (hard links to one small image a
folder, or copies where there are no links). Three data sets then list it, each in a
fork of its own: ``ImageFolder`` for the first time, again with the list that the first
kept, and torchvision's ``ImageFolder``, a list of a tuple an image. The plain one takes
its turn between the two.

The memory is that of the whole list read in shuffled order through a data loader (paths
and labels; pixels would weigh alike on both sides and take hours). ``own`` is what a
process shares with no other (USS), ``share`` counts what n processes share as 1/n each
(PSS, Linux). The first two columns hold the list alone: what the process weighs more
than before it was there, with the highest point on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder as PlainFolder

from msn_mm.datasets import ImageFolder, KeyedSampler

A_FOLDER = 1000
SIDES = ("first", "plain", "kept")


def write_images(root: Path, count: int) -> None:
    """Write ``count`` JPEG files below ``root``."""
    for begin in range(0, count, A_FOLDER):
        folder = root / f"class_{begin // A_FOLDER:05d}"
        folder.mkdir(parents=True)
        first = folder / f"image_{begin:08d}.jpg"
        Image.new("RGB", (64, 64), (begin // A_FOLDER % 256, 80, 160)).save(first)
        for i in range(begin + 1, min(begin + A_FOLDER, count)):
            name = folder / f"image_{i:08d}.jpg"
            try:
                os.link(first, name)
            except OSError:
                name.write_bytes(first.read_bytes())


def weigh(pid: int) -> dict[str, float]:
    """Return PSS and USS of a process in MiB."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0])
    own = fields["Private_Clean"] + fields["Private_Dirty"]
    return {"share": fields["Pss"] / 1024, "own": own / 1024}


class Entries:
    """The paths and labels of a data set, without its images."""

    def __init__(self, data: Any, plain: bool) -> None:
        self.data, self.plain = data, plain

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int) -> int:
        if self.plain:
            path, label = self.data.samples[key]
        else:
            info = self.data.get_data_info(key)
            path, label = info["img_path"], info["gt_label"]
        return len(path) + label


def measure(side: str, root: str, workers: list[int], context: str) -> dict[str, Any]:
    """Start one data set in this process and read all of it with each number of workers."""
    before, peak = weigh(os.getpid())["own"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, core = time.perf_counter(), time.process_time()
    data = PlainFolder(root) if side == "plain" else ImageFolder(root, labels="folder")
    found: dict[str, Any] = {
        "wall_s": time.perf_counter() - begun,
        "core_s": time.process_time() - core,
        "images": len(data),
        "list_mib": weigh(os.getpid())["own"] - before,
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024,
        "workers": {},
    }
    sampler = KeyedSampler(data, seed=0)
    begun = time.process_time()
    next(iter(sampler))
    found["permutation_s"] = time.process_time() - begun
    for count in workers:
        loader = DataLoader(
            Entries(data, side == "plain"),
            batch_size=1000,
            sampler=sampler,
            num_workers=count,
            multiprocessing_context=context if count else None,
        )
        begun = time.perf_counter()
        batches = iter(loader)
        total, last = 0, len(loader) - 1
        for number, batch in enumerate(batches):
            if number == 0:
                first_batch = time.perf_counter() - begun
            total += int(batch.sum())
            if number == last:
                pids = [worker.pid for worker in getattr(batches, "_workers", [])]
                each = [weigh(pid) for pid in pids]
                main = weigh(os.getpid())
        found["workers"][count] = {
            "sum": total,
            "first_batch_s": first_batch,
            "main": main,
            "worker": {key: statistics.median(one[key] for one in each) for key in main}
            if each
            else None,
            "all_share_mib": main["share"] + sum(one["share"] for one in each),
        }
        del batches
    return found


def in_fork(side: str, root: str, args: argparse.Namespace, cache: str) -> dict[str, Any]:
    """Run :func:`measure` in a process of its own, with the imports of this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.environ["XDG_CACHE_HOME"] = cache
            # A list is the same when it was kept; it need not be read by workers again.
            workers = args.workers if side != "kept" else []
            os.write(writing, json.dumps(measure(side, root, workers, args.context)).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    if os.waitpid(child, 0)[1] or not told:
        sys.exit(f"the measure '{side}' failed")
    found: dict[str, Any] = json.loads(told)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, 4, 8])
    parser.add_argument("--context", choices=("fork", "spawn"), default="fork")
    parser.add_argument("--root", help="a folder with one folder a class, instead of made files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.root
        if root is None:
            root = f"{scratch}/images"
            write_images(Path(root), args.images)
            # A list of folders that changed just now would not be kept.
            time.sleep(4)
        found = {side: in_fork(side, root, args, f"{scratch}/cache") for side in SIDES}
    sums = {one["sum"] for side in found.values() for one in side["workers"].values()}
    assert len(sums) == 1, "the data sets differ"
    images = found["first"]["images"]
    print(f"{images:,} images, workers by {args.context}, load {os.getloadavg()[0]:.1f}")
    names = {"first": "first start", "kept": "kept list", "plain": "torchvision's"}
    print("                   list      list   at most")
    for side in ("first", "kept", "plain"):
        one = found[side]
        print(
            f"{names[side]:<14}{one['core_s']:7.2f} s{one['list_mib']:6.0f} MiB"
            f"{one['peak_mib']:6.0f} MiB   (wall {one['wall_s']:.2f} s, "
            f"permutation {one['permutation_s'] * 1e3:.0f} ms)"
        )
    print("\nMiB after an epoch    main own   a worker's own   all together (PSS)   first batch")
    for side in ("first", "plain"):
        for count, one in found[side]["workers"].items():
            own = "-" if one["worker"] is None else f"{one['worker']['own']:.0f}"
            print(
                f"{names[side] if side == 'plain' else 'ours':<14}{count:>2} workers"
                f"{one['main']['own']:8.0f}{own:>17}{one['all_share_mib']:21.0f}"
                f"{one['first_batch_s']:12.2f} s"
            )
    if args.json is not None:
        args.json.write_text(json.dumps({"context": args.context, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
