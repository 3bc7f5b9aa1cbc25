"""Time extraction from image files against the encoder's bare forward pass.

    python benchmarks/extraction.py [--images DIR] [--workers 0 1 2] [--amp]

Both sides run the same model in the same process, turn by turn, so a change of
the machine's speed touches both. On a machine with other work the processor
time an image (all cores, all workers) is steadier than the rate. The bare pass
gets one normalised batch that is already in memory, again and again; extraction
decodes, resizes, cuts and normalises every image, and with ``--cached`` writes
its row to a fresh cache. Without ``--images`` the files are crops of
scikit-learn's two photographs, as JPEG of 500 x 375 pixels, the usual size in
ImageNet.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import seconds_of

from msn_mm.engine.launch import load_config
from msn_mm.evaluation.encoder import build_encoder
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.models.readout import represent

SIZE = (500, 375)


def write_images(folder: Path, count: int, quality: int = 90) -> None:
    """Write random crops of two photographs as JPEG."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(count):
        photo = photos[i % len(photos)]
        left, top = (
            int(rng.integers(0, side - cut + 1)) for side, cut in zip(photo.size, SIZE, strict=True)
        )
        crop = photo.crop((left, top, left + SIZE[0], top + SIZE[1]))
        crop.save(folder / f"{i:05d}.jpg", quality=quality)


def core_seconds() -> float:
    """Processor time so far of this process and its ended data workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/msn_vits16.py")
    parser.add_argument("--images", type=Path, help="folder of images instead of the crops")
    parser.add_argument("--count", type=int, default=256, help="images of one pass")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--cached", action="store_true", help="keep the rows in a fresh cache")
    args = parser.parse_args()

    cfg = load_config(args.config)
    encoder = build_encoder(cfg, None, amp=args.amp)
    device = encoder.device
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.images or Path(scratch, "images")
        if args.images is None:
            folder.mkdir()
            write_images(folder, args.count)
        images = folder_images(cfg, folder)
        count = min(args.count, len(images)) // args.batch * args.batch
        batch = torch.stack([images[i] for i in range(args.batch)])
        inputs = torch.randn(batch.shape, device=device)

        def bare() -> None:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.amp),
            ):
                for _ in range(count // args.batch):
                    represent(encoder.trunk, inputs)

        def extracted(workers: int, turn: int) -> None:
            cache = FeatureCache(Path(scratch, f"{workers}-{turn}")) if args.cached else None
            extract(
                encoder,
                images,
                range(count),
                batch_size=args.batch,
                workers=workers,
                cache=cache,
            )

        read = statistics.median(
            seconds_of(lambda i=i: images[i], torch.device("cpu")) for i in range(min(count, 64))
        )
        extract(encoder, images, range(args.batch), batch_size=args.batch)
        bare_rates: list[float] = []
        cores: dict[int | None, list[float]] = {kind: [] for kind in (None, *args.workers)}
        rates: dict[int, list[float]] = {workers: [] for workers in args.workers}
        load = os.getloadavg()[0]
        for turn in range(args.repeats):
            begun = core_seconds()
            bare_rates.append(count / seconds_of(bare, device))
            cores[None].append(core_seconds() - begun)
            for workers in args.workers:
                begun = core_seconds()
                time_taken = seconds_of(lambda w=workers, t=turn: extracted(w, t), device)
                rates[workers].append(count / time_taken)
                cores[workers].append(core_seconds() - begun)

    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{args.config}, {count} images in batches of {args.batch}, {where}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {load:.1f} before"
    )
    print(f"read one image    {read * 1e3:.1f} ms (one core)")
    spent = {kind: statistics.median(found) / count * 1e3 for kind, found in cores.items()}
    print(f"bare forward      {_spread(bare_rates)}, {spent[None]:.0f} core-ms an image")
    for workers, found in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(found, bare_rates, strict=True)]
        print(
            f"extract, {workers} workers  {_spread(found)}; of the bare pass "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{spent[workers]:.0f} core-ms an image"
        )


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):.1f} images/s ({min(rates):.1f} to {max(rates):.1f})"


if __name__ == "__main__":
    main()
