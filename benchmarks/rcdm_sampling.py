"""What an RCDM's samples cost, and how far a fast sampler is from the full schedule.

    python benchmarks/rcdm_sampling.py CONFIG CHECKPOINT [--images 16] [--json FILE]

Both sides draw the same images from the same first noise in one run, turn by turn: the
deterministic full schedule (ddim at all steps of the training) and fast samplers. The
distance is the root mean square difference of pixels from 0 to 1; beside it stands
how far two samples of one representation are from each other by the full schedule.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from step_rows import print_table, where, write_json
from timing import seconds_of

from msn_mm.diffusion.drawing import conditions_of
from msn_mm.diffusion.loading import load_rcdm, shown_images
from msn_mm.diffusion.sampling import SampleId, Sampler, draw_samples
from msn_mm.engine.launch import load_config
from msn_mm.evaluation.extraction import Mask

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def distances(found: torch.Tensor, reference: torch.Tensor) -> np.ndarray:
    """Root mean square difference of each pair of uint8 images, on the scale 0 to 1."""
    difference = (found.double() - reference.double()) / 255
    return difference.flatten(1).square().mean(1).sqrt().numpy()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--images", type=int, default=16, help="one sample of each")
    parser.add_argument("--folder", help="a folder of images; default: the config's held-out ones")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    cfg = load_config(args.config)
    model = load_rcdm(cfg, args.checkpoint)
    device = model.encoder.device
    images = shown_images(model, cfg, args.folder)
    indices = np.linspace(0, len(images) - 1, args.images).astype(int).tolist()
    conditions = conditions_of(model, images, indices, Mask())
    full = Sampler("ddim", model.schedule.num_steps)

    def draw(sampler: Sampler, number: int = 0) -> torch.Tensor:
        ids = [SampleId(index, number) for index in indices]
        return draw_samples(model, conditions, ids, sampler, batch_size=args.images, amp=args.amp)

    fast = [Sampler(name, n) for n in args.steps for name in ("ddim", "dpm", "ddpm")]
    spent: dict[Sampler, list[float]] = {sampler: [] for sampler in [full, *fast]}
    drawn: dict[Sampler, torch.Tensor] = {}

    def timed(sampler: Sampler) -> None:
        drawn[sampler] = draw(sampler)

    for _ in range(args.rounds):
        for sampler, seconds in spent.items():
            seconds.append(seconds_of(partial(timed, sampler), device, CLOCKS[args.clock]))
    reference = drawn[full]
    # Another first noise: what the sampler's error is to be compared with.
    between = float(distances(draw(full, 1), reference).mean())

    print(
        f"{args.config}, {args.images} samples at a time, {where(device)}, {args.clock} time, "
        f"median of {args.rounds}; two samples of one representation differ by {between:.3f}"
    )
    rows, lines = {}, []
    slow = statistics.median(spent[full])
    for sampler, seconds in spent.items():
        median = statistics.median(seconds)
        apart = None if sampler.name == "ddpm" else distances(drawn[sampler], reference)
        name = f"{sampler.name} {sampler.steps}"
        rows[name] = {
            "seconds": seconds,
            "steps_per_s": sampler.steps / median,
            "images_per_s": args.images / median,
            "times_faster": slow / median,
            "distance_mean": None if apart is None else float(apart.mean()),
            "distance_max": None if apart is None else float(apart.max()),
        }
        far = ["-", "-"] if apart is None else [f"{apart.mean():.4f}", f"{apart.max():.4f}"]
        rate = [f"{sampler.steps / median:.1f}", f"{args.images / median:.2f}"]
        lines.append([name, *rate, f"{slow / median:.1f}", *far])
    heads = ["sampler, steps", "steps/s", "images/s", "times faster", "distance", "largest"]
    print_table(heads, lines)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    write_json(
        args.json,
        {**settings, "device": where(device), "between_samples": between, "rows": rows},
    )


if __name__ == "__main__":
    main()
