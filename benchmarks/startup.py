"""Time a training's start against the imports that nobody can spare it.

    python benchmarks/startup.py [configs/msn_digits.py] [--repeats 5] [--json FILE]

One side is ``python tools/train.py CONFIG`` from the start of the interpreter to its
first training step (the batch is there, the model is called). The other is an
interpreter that imports torch, mmengine and timm. The two take turns, each in a fresh
process. Processor time (user and system, ended data workers included) is the one to
read on a machine with other work; wall time is what a user waits on an idle one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Prints and goes: what an interpreter does at its end is no part of a start.
_TELL = """
import os, resource, sys, time
def tell(modules=False):
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
    names = " ".join(sorted(sys.modules)) if modules else ""
    now = time.monotonic()
    with open(os.environ["TELL"], "w") as file:
        file.write(f"{seconds} {now} {names}")
    os._exit(0)
"""
_BARE = _TELL + "import torch, mmengine, timm\ntell()\n"
_OURS = (
    _TELL
    + """
import importlib.abc, runpy
class AtFirstStep(importlib.abc.MetaPathFinder):
    # Waits for MMEngine's base of all models, so that nothing is loaded out of turn.
    def find_spec(self, name, path, target=None):
        if name != "mmengine.model.base_model.base_model":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            module.BaseModel.train_step = lambda *args, **kwargs: tell(True)
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, AtFirstStep())
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)


def start(words: list[str]) -> dict[str, Any]:
    """Start Python with these words; return its seconds and what it had loaded.

    Returns:
        ``core_s``, ``wall_s``, and ``modules``, empty for the bare imports.
    """
    with tempfile.NamedTemporaryFile("r") as file:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TELL": file.name},
            capture_output=True,
        )
        told = file.read().split()
    if not told:
        sys.exit(f"{' '.join(words[2:])} reached no step:\n{done.stderr.decode()[-2000:]}")
    return {
        "core_s": float(told[0]),
        "wall_s": float(told[1]) - begun,
        "modules": told[2:],
    }


def modules_at_first_step(config: str, out: str) -> list[str]:
    """Return what a training of a config has loaded when its first step begins."""
    modules: list[str] = start(["-c", _OURS, "tools/train.py", config, "--out", out])["modules"]
    return modules


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/msn_digits.py")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    args = parser.parse_args()

    runs: dict[str, list[dict[str, Any]]] = {"imports": [], "train": []}
    with tempfile.TemporaryDirectory() as scratch:
        train = ["-c", _OURS, "tools/train.py", args.config, "--out", scratch]
        start(["-c", _BARE])  # the files come from the disk the first time
        start(train)
        for _ in range(args.repeats):
            runs["imports"].append(start(["-c", _BARE]))
            runs["train"].append(start(train))
    medians = {
        side: {key: statistics.median(run[key] for run in found) for key in ("core_s", "wall_s")}
        for side, found in runs.items()
    }
    ratios = {
        key: statistics.median(
            ours[key] / theirs[key]
            for ours, theirs in zip(runs["train"], runs["imports"], strict=True)
        )
        for key in ("core_s", "wall_s")
    }
    print(f"{args.config}, {args.repeats} starts a side, medians, load {os.getloadavg()[0]:.1f}")
    print("                              processor        wall")
    for side, name in (("imports", "torch, mmengine, timm"), ("train", "to the first step")):
        found = medians[side]
        print(f"{name:<28}{found['core_s']:9.2f} s{found['wall_s']:10.2f} s")
    print(f"{'ratio':<28}{ratios['core_s']:11.2f}{ratios['wall_s']:12.2f}")
    loaded = {name.partition(".")[0] for name in runs["train"][-1]["modules"]}
    large = ("sklearn", "scipy", "matplotlib", "transformers", "cyanure", "onnx", "tensorboard")
    print(f"loaded of {', '.join(large)}: {', '.join(sorted(loaded & set(large))) or 'none'}")
    if args.json is not None:
        kept = {
            side: [{k: run[k] for k in ("core_s", "wall_s")} for run in found]
            for side, found in runs.items()
        }
        content = {
            "config": args.config,
            "median": medians,
            "ratio": ratios,
            "runs": kept,
            "load": os.getloadavg(),
            "cpu_count": os.cpu_count(),
            "modules": sorted(runs["train"][-1]["modules"]),
        }
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
