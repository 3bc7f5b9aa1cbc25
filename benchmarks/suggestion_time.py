"""What choosing images to label costs once their features are there: seconds and memory.

    python benchmarks/suggestion_time.py [--images 20000 1000000] [--number 50] [--json FILE]

Both methods of msn-mm label-suggest choose from the same rows, drawn about 200 centres
as unequal in size as kinds of images are (each after the first a little rarer). Every
choice runs in a process of its own, whose most memory (rows included, and torch) is
told. Processor seconds: of one thread, on which the choice is made whatever the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from step_rows import print_table, write_json

from msn_mm.few_labels.choosing import METHODS, choose

CENTRES = 200


def draw(images: int, width: int) -> np.ndarray:
    """Return float32 rows of unit norm."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, width), dtype=np.float32)
    share = 0.98 ** np.arange(CENTRES)
    rows = rng.standard_normal((images, width), dtype=np.float32)
    rows += centres[rng.choice(CENTRES, images, p=share / share.sum())]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(images: int, width: int, number: int, method: str) -> dict[str, Any]:
    """Choose once and tell what it took; runs in a process of its own."""
    rows = draw(images, width)
    begun = time.process_time()
    found = choose(rows, rows[:0], number, method)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert len(found) == number
    return {"seconds": seconds, "peak_bytes": peak, "rows_bytes": rows.nbytes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=(20_000, 1_000_000))
    parser.add_argument("--width", type=int, default=384, help="numbers of a feature")
    parser.add_argument("--number", type=int, default=50, help="images to choose")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    figures, lines = [], []
    for images in args.images:
        for method in METHODS:
            runs = []
            for _ in range(args.rounds):
                with spawn.Pool(1) as pool:
                    runs.append(pool.apply(measure, (images, args.width, args.number, method)))
            seconds = statistics.median(run["seconds"] for run in runs)
            peak, rows = max(run["peak_bytes"] for run in runs), runs[0]["rows_bytes"]
            figures.append({"images": images, "method": method, "seconds": seconds, "runs": runs})
            gib = [f"{size / 2**30:.2f}" for size in (peak, rows)]
            lines.append([f"{images:,} {method}", f"{seconds:.1f}", *gib])
    print(f"{args.number} images by {args.width} numbers each, median of {args.rounds}")
    print_table(["images, method", "processor s", "most GiB", "rows alone GiB"], lines)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    write_json(args.json, {**settings, "rows": figures})


if __name__ == "__main__":
    main()
