"""Memory and images/s of a training step over the micro-batch, measured and predicted.

    python benchmarks/micro_batch.py [configs/msn_vits16.py] [--batch 16] [--amp] [--json FILE]
        [--sizes 64 32 16 8 4]

Rows are the whole batch at once, the whole batch with recomputed blocks
(``model.backbone.checkpointing=True``), and ``model.micro_batch=N`` for each N. Memory and
times as in masking_table.py; the prediction is the dry run's.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from step_rows import Step, measure, print_table, where, write_json
from step_sides import ours

from msn_mm.engine.launch import load_config
from msn_mm.utils.dry_run import make_plan

WHOLE = "whole batch"


def variant(cfg: Config, batch: int, size: int | None, checkpointing: bool = False) -> Config:
    """Return a config with a batch, a micro-batch and blocks that are recomputed or not."""
    cfg = copy.deepcopy(cfg)
    changes: dict[str, Any] = {"global_batch_size": batch, "model.micro_batch": size}
    cfg.merge_from_dict({**changes, "model.backbone.checkpointing": checkpointing})
    return cfg


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/msn_vits16.py")
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=(64, 32, 16, 8, 4), metavar="N", help="views"
    )
    parser.add_argument("--steps", type=int, default=1, help="timed steps of a row and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = load_config(args.config)
    variants = {
        WHOLE: variant(cfg, args.batch, None),
        "recomputed blocks": variant(cfg, args.batch, None, checkpointing=True),
        **{f"micro-batch {n}": variant(cfg, args.batch, n) for n in args.sizes},
    }
    builders: dict[str, Callable[[], Step]] = {
        name: lambda c=one: ours(c, args.batch, device, args.amp, False)[0]
        for name, one in variants.items()
    }
    rows = measure(builders, args.batch, args.rounds, args.steps, device, args.clock)

    print(
        f"{args.config}, batch {args.batch}, {where(device)}, {args.clock} time, median of "
        f"{args.rounds * args.steps}"
    )
    whole, lines, figures = rows[WHOLE], [], {}
    for name, row in rows.items():
        memory = make_plan(variants[name], amp=args.amp).memory
        assert memory is not None
        figures[name] = {**row.as_dict(), "predicted_bytes": memory.total}
        lines.append(
            [
                name,
                f"{row.peak_bytes / 2**30:.2f}",
                f"{memory.total / 2**30:.2f}",
                f"{row.images_per_s:.2f}",
                f"{row.peak_bytes / whole.peak_bytes:.2f}",
                f"{row.images_per_s / whole.images_per_s:.2f}",
            ]
        )
    print_table(["step", "GiB", "predicted", "images/s", "memory ratio", "rate ratio"], lines)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    write_json(args.json, {**settings, "device": where(device), "rows": figures})


if __name__ == "__main__":
    main()
