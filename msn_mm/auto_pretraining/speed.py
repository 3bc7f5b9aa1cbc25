"""How fast a config trains here: a few of its real steps, timed."""

from __future__ import annotations

import contextlib
import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine.launch import build_runner, train

# Of the first steps, in which workers start and kernels are chosen.
_WARM_UP = 3
_LEAST, _MOST = 5, 60
_SECONDS = 15.0
# What a short trial cannot see: the machine's other work, its heat, a disk that is busy.
_UNSEEN = 0.1


@dataclass(frozen=True)
class Speed:
    """Seconds of a training step, as timed.

    Attributes:
        batch: Images of a step.
        step_s: Median.
        low_s: The fastest quarter's slowest.
        high_s: The slowest quarter's fastest.
    """

    batch: int
    step_s: float
    low_s: float
    high_s: float

    @property
    def images_per_s(self) -> float:
        """Source images a second."""
        return self.batch / self.step_s

    def range_s(self, steps: int) -> tuple[float, float, float]:
        """Return the seconds of so many steps: likely, and from the least to the most."""
        low, high = self.low_s * (1 - _UNSEEN), self.high_s * (1 + _UNSEEN)
        return steps * self.step_s, steps * min(low, self.step_s), steps * max(high, self.step_s)


class _Enough(Exception):
    """Ends a trial."""


class _Clock(Hook):
    priority = "LOWEST"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.spent: list[float] = []
        self._began = self._last = time.perf_counter()

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elif torch.backends.mps.is_available():
            torch.mps.synchronize()
        now = time.perf_counter()
        self.spent.append(now - self._last)
        self._last = now
        timed = len(self.spent) - _WARM_UP
        late = now - self._began > self.seconds
        if timed >= _MOST or (late and timed >= _LEAST):
            raise _Enough


def time_steps(cfg: Config, seconds: float = _SECONDS) -> Speed:
    """Train a few steps as the config says, in a directory that goes, and time them.

    Args:
        cfg: The config; not changed.
        seconds: About how long; never fewer than eight steps.

    Raises:
        UserError: As :func:`~msn_mm.engine.launch.build_runner`.
    """
    cfg = Config(cfg.to_dict())
    cfg.log_level = "ERROR"
    for key in ("val_cfg", "val_dataloader", "val_evaluator"):
        cfg[key] = None
    cfg.load_from = None  # its weights cost a step nothing
    deaf = dict(type="StopSignalHook", signals=())
    cfg.default_hooks = {
        **cfg.default_hooks,
        "checkpoint": None,
        "stop_signal": deaf,
        "logger": None,
    }
    cfg.visualizer = dict(type="LazyVisualizer", vis_backends=[])
    # The length matters to schedules alone, and a trial must not end by it.
    cfg.train_cfg.max_epochs = max(cfg.train_cfg.max_epochs, _MOST + _WARM_UP + 1)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(cfg, work_dir=folder)
        clock = _Clock(seconds)
        runner.register_hook(clock)
        with contextlib.suppress(_Enough):
            train(runner)
        # Runner and hooks hold each other, and the GPU's memory.
        del runner
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    timed = sorted(clock.spent[_WARM_UP:])
    quarters = statistics.quantiles(timed, n=4)
    batch = int(cfg.global_batch_size)
    return Speed(batch, statistics.median(timed), quarters[0], quarters[2])


def spell_time(seconds: float) -> str:
    """Return a duration as a user says it: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 days 5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        tens = 10 * round(minutes / 10) if minutes < 55 else 50
        return f"{hours} h {tens} min" if tens else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} day{'s' * (days > 1)}" + (f" {hours} h" if hours else "")
