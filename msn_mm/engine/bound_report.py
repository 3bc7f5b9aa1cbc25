"""The config that :class:`MeasuringLoop` runs, and the table of what it found."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from msn_mm.engine.bound import Measured, Verdict, judge
from msn_mm.engine.loops.measuring_loop import MeasuringLoop
from msn_mm.errors import UserError
from msn_mm.utils.results import format_table, write_results

_BUSY = 0.1
_ROWS = {
    "input_s": "input alone",
    "step_s": "step alone",
    "both_s": "training",
    "amp_step_s": "step in bfloat16",
    "half_step_s": "step, half the batch",
    "silent_step_s": "step, no exchange",
}


def measuring_config(
    cfg: Config,
    steps: int,
    amp: bool = False,
    workers: int | None = None,
    batch: int | None = None,
) -> Config:
    """Return a copy of a training config that measures and leaves nothing behind.

    Args:
        cfg: A config that trains by epochs.
        steps: As :class:`MeasuringLoop`.
        amp: The training runs in bfloat16.
        workers: Data workers a process; ``None``: the config's.
        batch: Images a process in one pass; ``None``: the config's.

    Raises:
        UserError: The config trains nothing, or not by epochs.
    """
    cfg = copy.deepcopy(cfg)
    loop, loader = cfg.get("train_cfg"), cfg.get("train_dataloader")
    if loop is None or loader is None:
        raise UserError("the config trains nothing: give one with train_cfg and train_dataloader")
    if not loop.get("by_epoch", True) or "max_epochs" not in loop:
        raise UserError("benchmark.py measures trainings by epochs: give train_cfg.max_epochs")
    takes_amp = (cfg.get("optim_wrapper") or {}).get("type") == "GroupOptimWrapper"
    cfg.train_cfg = dict(
        type=MeasuringLoop.__name__,
        max_epochs=loop["max_epochs"],
        steps=steps,
        try_amp=takes_amp and not amp,
    )
    for part in ("val", "test"):
        for key in (f"{part}_cfg", f"{part}_dataloader", f"{part}_evaluator"):
            if key in cfg:
                cfg[key] = None
    cfg.load_from, cfg.resume = None, False
    hooks = dict(cfg.get("default_hooks") or {})
    # A signal ends it at once: there is nothing to save.
    deaf = dict(type="StopSignalHook", signals=())
    cfg.default_hooks = {**hooks, "checkpoint": None, "stop_signal": deaf}
    cfg.visualizer = dict(type="LazyVisualizer", vis_backends=[])
    if workers is not None:
        loader["num_workers"] = workers
    if not loader.get("num_workers"):
        loader.pop("prefetch_factor", None)
    # Workers of one measure must not go on loading within the next.
    loader["persistent_workers"] = False
    if batch is not None:
        for key in ("global_batch_size", "base_batch_size"):
            cfg.pop(key, None)
        loader["batch_size"] = batch
    return cfg


def report(
    measured: Measured,
    out: Path,
    config: str,
    settings: Mapping[str, Any],
    seconds: float,
) -> str:
    """Write ``results.json`` and return the table and the verdict in words.

    Args:
        measured: What the loop found.
        out: The tool's directory.
        config: The config as the user named it.
        settings: What the tool was told.
        seconds: Duration of the work.
    """
    verdict = judge(measured)
    write_results(
        out / "results.json",
        tool="benchmark",
        config=config,
        checkpoint=None,
        settings=settings,
        metrics={
            **asdict(measured),
            "images_per_s": {
                name: measured.rate(took, measured.batch // (2 if name == "half_step_s" else 1))
                for name, took in _times(measured).items()
            },
            **asdict(verdict),
        },
        seconds=seconds,
    )
    return f"\n{_table(measured)}\n\n{_words(measured, verdict)}\n\nresults: {out / 'results.json'}"


def _times(measured: Measured) -> dict[str, float]:
    found = asdict(measured)
    return {name: found[name] for name in _ROWS if found[name] is not None}


def _table(measured: Measured) -> str:
    rows = []
    for name, took in _times(measured).items():
        batch = measured.batch // (2 if name == "half_step_s" else 1)
        rows.append([_ROWS[name], f"{took * 1e3:.1f}", f"{measured.rate(took, batch):.1f}"])
    return format_table(["", "ms a pass", "images/s"], rows)


def _words(measured: Measured, verdict: Verdict) -> str:
    processes = f"{measured.processes} process{'es' if measured.processes > 1 else ''}"
    where = "a GPU each" if measured.on_gpu else f"{measured.threads} threads each on the CPU"
    lines = [
        f"{processes} ({where}) x {measured.batch} images, {measured.workers} data workers on "
        f"{measured.cores} cores; an image costs a core {measured.image_s * 1e3:.2f} ms",
        f"bound by: {verdict.bound} ({verdict.reason})",
    ]
    if measured.busy > _BUSY:
        lines.append(
            f"note: for {measured.busy:.0%} of the time other work had the core of this process; "
            "times are those of a shared machine, measure again when it is idle"
        )
    for number, advice in enumerate(verdict.advice, start=1):
        line = f"{number}. {advice.text}"
        if advice.options:
            line += f": {advice.options}"
        if advice.images_per_s is not None:
            now = measured.rate(measured.both_s)
            gain = f"; about {advice.images_per_s:.1f} images/s instead of {now:.1f}"
            line += gain
        lines.append(line)
    return "\n".join(lines)
