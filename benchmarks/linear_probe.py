"""Time the training of a linear probe against the bare forward pass behind the same input.

    python benchmarks/linear_probe.py [--workers 2] [--batch 32] [--amp]

Both sides read, cut and flip the same JPEG files through data loaders of the same
settings and run the same frozen trunk, epoch by epoch in turn, so a change of
the machine's speed touches both; on a machine with other work the processor
time an image is steadier (use --workers 0). The bare side normalises and computes the last
blocks' tokens; the probe, trained by the runner with all hooks but the saves, also
computes 21 heads of 1,000 classes forward and backward and takes the optimizer's
steps. Files are crops of scikit-learn's two photographs, 500 x 375 pixels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from extraction import core_seconds, write_images
from mmengine.hooks import Hook
from mmengine.runner import Runner
from timing import seconds_of

from msn_mm.engine.launch import build_runner, load_config, train


class Turns(Hook):
    """Time each epoch of the training, then one of the bare side."""

    priority = "VERY_HIGH"

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.probe: list[float] = []
        self.bare: list[float] = []
        self.cores: dict[str, list[float]] = {"probe": [], "bare": []}
        self.loader: Any = None

    def before_train(self, runner: Runner) -> None:
        self.loader = Runner.build_dataloader(runner.cfg.train_dataloader, seed=0)

    def before_train_epoch(self, runner: Runner) -> None:
        self.begun, self.used = time.perf_counter(), core_seconds()

    def after_train_epoch(self, runner: Runner) -> None:
        encoder = runner.model.encoder
        if encoder.device.type == "cuda":
            torch.cuda.synchronize()
        images = len(self.loader) * self.batch
        self.probe.append(images / (time.perf_counter() - self.begun))
        self.cores["probe"].append((core_seconds() - self.used) / images)
        self.loader.sampler.set_epoch(runner.epoch)
        used = core_seconds()
        self.bare.append(images / seconds_of(lambda: self.epoch(encoder), encoder.device))
        self.cores["bare"].append((core_seconds() - used) / images)

    @torch.inference_mode()
    def epoch(self, encoder: Any) -> None:
        readout = encoder.readout
        for data in self.loader:
            with torch.autocast(encoder.device.type, torch.bfloat16, enabled=encoder.amp):
                inputs = encoder._normalise({"inputs": data["inputs"], "data_samples": {}})
                encoder.trunk.forward_intermediates(
                    inputs["inputs"], blocks=readout.blocks, norm=readout.norm
                )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="configs/msn_vits16.py")
    parser.add_argument("--count", type=int, default=256, help="images of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="images of a forward pass")
    parser.add_argument("--accumulation", type=int, default=4, help="passes of a step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="epochs, after one to warm up")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        # All files are of one of the classes; that takes no less time.
        files = Path(scratch, "images", "n0")
        files.mkdir(parents=True)
        write_images(files, args.count)
        folder = dict(type="ImageFolder", data_root=f"{scratch}/images", labels="folder")
        cfg = load_config("configs/linear_vits16.py")
        cfg.model.encoder.config = args.encoder
        cfg.model.amp = args.amp
        cfg.train_dataloader.dataset.dataset = folder
        cfg.train_dataloader.update(num_workers=args.workers, persistent_workers=args.workers > 0)
        cfg.accumulation = args.accumulation
        cfg.global_batch_size = args.batch * args.accumulation
        cfg.train_cfg.max_epochs = args.repeats + 1
        cfg.default_hooks.checkpoint = None
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.train_cfg.pop("val_interval")
        cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type != "ClassCountHook"]
        turns = Turns(args.batch)
        runner = build_runner(cfg, work_dir=Path(scratch, "out"), seed=0)
        runner.register_hook(turns)
        load = os.getloadavg()[0]
        train(runner)
        device, heads = runner.model.encoder.device, len(runner.model.head_names)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{args.encoder}, {args.count} images in batches of {args.batch}, {args.accumulation} a "
        f"step, {heads} heads, {args.workers} workers, {where}, {torch.get_num_threads()} threads "
        f"of {os.cpu_count()} cores, load {load:.1f} before"
    )
    bare, probe = turns.bare[1:], turns.probe[1:]
    ratios = [ours / theirs for ours, theirs in zip(probe, bare, strict=True)]
    for name, rates in (("input + bare forward", bare), ("linear probe", probe)):
        print(f"{name:<21} {statistics.median(rates):7.1f} images/s", end="")
        print(f" ({min(rates):.1f} to {max(rates):.1f})")
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    # Without data workers all of the work is this process's, and steadier than the clock.
    used = {side: statistics.median(found[1:]) for side, found in turns.cores.items()}
    print(
        f"core-ms an image: bare {used['bare'] * 1e3:.1f}, probe {used['probe'] * 1e3:.1f}, "
        f"ratio {used['bare'] / used['probe']:.3f}"
        + (" (main process alone)" if args.workers else "")
    )


if __name__ == "__main__":
    main()
