"""Time one training step of MSN against a plain timm and torch loop and a matrix product.

    python benchmarks/train_step.py [configs/msn_vits16.py] [--batch 8] [--steps 5] [--amp]
        [--compile] [--clock cpu] [--side ours] [--peak TFLOPS] [--json FILE]

A step is forward, backward, the check for finite values, optimizer and EMA on a
batch of random views that is already in memory; what loading costs is another
question. The plain side (plain_msn.py) is float32 and eager, whatever ours is.

Each side has a process of its own, and they take turns: a step of ours, a step of
the other, and beside each a product (2048^3 in float32; on a GPU 8192^3, for ours
with --amp in bfloat16), so a change of the machine's speed touches all. A step's
operations are those that torch's FLOP counter finds in matrix products,
convolutions and attention of the step that really ran: dropped tokens are not in
it, nor patches of the last block that nobody reads, nor what checkpointing
computes twice, and attention's backward pass counts the scores that it computes
again (0.5 % of a ViT-S/16's step). The last line counts the plain loop's operations
in ours' time: the rate at which the same result came.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from step_sides import SIDES

HERE = Path(__file__).parent


class Side:
    """A process that computes one side."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.times: dict[str, list[float]] = {"step": [], "product": []}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "step_sides.py"), name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> Any:
        """Return the answer to one line."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"train_step: the {self.name} side ended; what it said stands above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def result(side: Side, batch: int, peak: float | None) -> dict[str, Any]:
    """Return what was measured of one side."""
    about = side.ask("about")
    seconds = statistics.median(side.times["step"])
    rate = about["product_flops"] / statistics.median(side.times["product"])
    achieved = about["flops"] / seconds
    return {
        **about,
        "step_s": side.times["step"],
        "step_s_median": seconds,
        "images_per_s": batch / seconds,
        "flops_per_s": achieved,
        "product_flops_per_s": rate,
        "of_product": achieved / rate,
        "of_peak": None if peak is None else achieved / (peak * 1e12),
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print one side."""
    times = [1e3 * t for t in found["step_s"]]
    share = "" if found["of_peak"] is None else f", {100 * found['of_peak']:.0f} % of the peak"
    print(
        f"{name:<6} {1e3 * found['step_s_median']:.0f} ms a step ({min(times):.0f} to "
        f"{max(times):.0f}), {found['images_per_s']:.2f} images/s"
    )
    print(
        f"       {found['flops'] / 1e9:.1f} GFLOP, {found['flops_per_s'] / 1e9:.1f} GFLOP/s, "
        f"{found['of_product']:.2f} of the product's {found['product_flops_per_s'] / 1e9:.1f}"
        f"{share}; peak memory {found['peak_bytes'] / 2**30:.2f} GiB"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/msn_vits16.py")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--steps", type=int, default=5, help="timed steps; the median counts")
    parser.add_argument("--amp", action="store_true", help="ours in bfloat16")
    parser.add_argument("--compile", action="store_true", help="ours with compiled blocks")
    parser.add_argument("--side", choices=SIDES, help="one side alone")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: the process's own time, for a CPU that others use too",
    )
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of the device, as published")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    settings = {k: getattr(args, k) for k in ("config", "batch", "amp", "compile", "clock")}
    sides = [Side(name, settings) for name in ([args.side] if args.side else SIDES)]
    # Kernels are chosen, blocks compiled and memory found in the first two.
    for turn in range(-2, args.steps):
        for side in sides:
            for what, times in side.times.items():
                seconds = side.ask(what)
                if turn >= 0:
                    times.append(seconds)
    found = {side.name: result(side, args.batch, args.peak) for side in sides}
    for side in sides:
        side.close()
    first = found[sides[0].name]
    how = f"{args.clock} time, median of {args.steps}"
    print(
        f"{args.config}, batch {args.batch}, {first['device']}, {first['threads']} threads, {how}"
    )
    for name, one in found.items():
        show(name, one)
    ratio = None
    if len(found) == 2:
        ratio = found["plain"]["step_s_median"] / found["ours"]["step_s_median"]
        print(f"ours   {ratio:.2f} times the images/s of the plain loop")
        work = found["plain"]["flops"] / found["ours"]["flops"] * found["ours"]["of_product"]
        print(f"       {work:.2f} of the product's rate, if the plain loop's work counts")
    if args.json:
        args.json.write_text(json.dumps({**settings, "sides": found, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
