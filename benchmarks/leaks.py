"""Do memory and open files grow over a long training?

    python benchmarks/leaks.py [--iterations 2000] [--first 200] [--workers 2]

A real training on a folder of JPEG files (two of them damaged) that it writes
itself: worker processes, multi-crop, EMA, collapse monitor, TensorBoard and
checkpoints, with a model so small that the iterations are many. Read at
``--first`` and at the end, and some times between: resident memory of this
process, memory of the workers with shared pages divided among their sharers
(PSS), and open files of all. Status 1 when the last reading is more than 2 %
above the first. Linux alone has what it reads.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from msn_mm.engine.launch import build_runner, load_config, train

# Twenty iterations an epoch: readings fall on its end, when no batch is on its way.
IMAGES, BATCH = 320, 16
ALLOWED = 0.02


class Reading(NamedTuple):
    """What a moment of the run holds; sizes in MiB."""

    iteration: int
    main: float
    workers: float
    files: int
    worker_files: int


class Meter(Hook):
    """Take a reading at chosen iterations."""

    priority = "LOWEST"

    def __init__(self, at: set[int]) -> None:
        self.at = at
        self.readings: list[Reading] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Read."""
        if runner.iter + 1 not in self.at:
            return
        gc.collect()
        workers = [child.pid for child in multiprocessing.active_children()]
        self.readings.append(
            Reading(
                runner.iter + 1,
                _memory("self", "Rss"),
                sum(_memory(pid, "Pss") for pid in workers),
                _files("self"),
                sum(_files(pid) for pid in workers),
            )
        )


def _memory(process: int | str, kind: str) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1]) / 1024


def _files(process: int | str) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def write_images(folder: Path) -> None:
    """Write JPEG files of 160 x 120 pixels, two of them cut short."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for k in range(IMAGES):
        path = folder / f"{k:03}.jpg"
        Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(path)
        if k < 2:
            path.write_bytes(path.read_bytes()[:2000])


def small_runner(images: Path, work_dir: Path, iterations: int, workers: int) -> Runner:
    """The training: configs/msn_folder.py with two blocks of width 48 on 32-pixel views."""
    cfg = load_config("configs/msn_folder.py", {"data_root": str(images)})
    views = cfg.train_dataloader.dataset.transform.views
    for view in views.values():
        view.update(size=32, num=min(2, view.get("num", 1)))
    cfg.merge_from_dict(
        {
            "model.backbone": dict(
                name="vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2
            ),
            "model.head": dict(hidden_dim=64, output_dim=32, num_prototypes=32),
            "train_dataloader.num_workers": workers,
            "train_dataloader.persistent_workers": workers > 0,
            "global_batch_size": BATCH,
            "base_batch_size": BATCH,
            "train_cfg.max_epochs": -(-iterations // (IMAGES // BATCH)),
            "default_hooks.checkpoint.interval": 5,
            "default_hooks.logger.interval": 50,
            "log_level": "WARNING",
        }
    )
    cfg.param_scheduler = cfg.param_scheduler[2:]
    return build_runner(cfg, work_dir=work_dir)


def main() -> int:
    """Measure, print, and return the status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--first", type=int, default=200, help="iteration of the first reading")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    step = max(20, (args.iterations - args.first) // 6)
    meter = Meter({*range(args.first, args.iterations, step), args.iterations})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder, "images"))
        runner = small_runner(
            Path(folder, "images"), Path(folder, "work"), args.iterations, args.workers
        )
        runner.register_hook(meter)
        train(runner)
        logging.shutdown()
    seconds = time.perf_counter() - started
    print(f"{args.iterations} iterations, {args.workers} workers, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads, {seconds:.0f} s")
    print(f"{'iteration':>9} {'RSS MiB':>8} {'workers PSS':>11} {'files':>5} {'of workers':>10}")
    for r in meter.readings:
        print(
            f"{r.iteration:>9} {r.main:>8.1f} {r.workers:>11.1f} {r.files:>5} {r.worker_files:>10}"
        )
    first, last = meter.readings[0], meter.readings[-1]
    status = 0
    for name in ("main", "workers", "files", "worker_files"):
        before, after = getattr(first, name), getattr(last, name)
        growth = after / before - 1 if before else 0.0
        verdict = "ok" if growth <= ALLOWED else "GROWS"
        status |= growth > ALLOWED
        print(f"{name:<13}{growth:+8.2%}  {verdict}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
