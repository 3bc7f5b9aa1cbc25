"""What masking saves: memory and images/s of MSN's step over the mask ratio.

    python benchmarks/masking_table.py [configs/msn_vits16.py] [--batch 8] [--amp] [--json FILE]

The paper's table of masked compute (ViT-L/7 on 8 A100) in the same shape for any model and
machine: the anchor's mask is 0, 0.3, 0.5, 0.7. Mask 0 is the unmasked Siamese step, which
the others are divided by. The plain side (plain_msn.py) is timm and torch in float32, eager.

On a GPU the memory is the allocator's peak. On a CPU it is the most bytes of tensors alive
at once, which is the same number on every machine. Each round builds every row anew; times
are medians over all rounds.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from step_rows import Step, measure, print_table, where, write_json
from step_sides import ours, plain

from msn_mm.engine.launch import load_config

MASKS = (0.0, 0.3, 0.5, 0.7)


def with_mask(cfg: Config, ratio: float) -> Config:
    """Return a config whose anchor views lose that share of their patches."""
    cfg = copy.deepcopy(cfg)
    cfg.model["mask_ratio"] = dict(anchor=ratio)
    return cfg


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/msn_vits16.py")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--masks", type=float, nargs="+", default=MASKS, metavar="R")
    parser.add_argument("--steps", type=int, default=1, help="timed steps of a row and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amp", action="store_true", help="ours in bfloat16")
    parser.add_argument("--no-plain", action="store_true", help="ours alone")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = load_config(args.config)
    builders: dict[str, Callable[[], Step]] = {}
    for ratio in args.masks:
        masked = with_mask(cfg, ratio)
        builders[f"ours {ratio:g}"] = lambda c=masked: ours(c, args.batch, device, args.amp, False)[
            0
        ]
        if not args.no_plain:
            builders[f"plain {ratio:g}"] = lambda c=masked: plain(c, args.batch, device)[0]
    rows = measure(builders, args.batch, args.rounds, args.steps, device, args.clock)

    print(
        f"{args.config}, batch {args.batch}, {where(device)}, {args.clock} time, median of "
        f"{args.rounds * args.steps}"
    )
    first = rows[f"ours {args.masks[0]:g}"]
    lines = []
    for name, row in rows.items():
        lines.append(
            [
                name,
                f"{row.peak_bytes / 2**30:.2f}",
                f"{row.images_per_s:.2f}",
                f"{row.peak_bytes / first.peak_bytes:.2f}",
                f"{row.images_per_s / first.images_per_s:.2f}",
            ]
        )
    unmasked = f"of ours {args.masks[0]:g}"
    print_table(["step, mask", "GiB", "images/s", f"memory {unmasked}", f"rate {unmasked}"], lines)
    figures = {name: row.as_dict() for name, row in rows.items()}
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    write_json(args.json, {**settings, "device": where(device), "rows": figures})


if __name__ == "__main__":
    main()
