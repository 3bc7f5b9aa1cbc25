"""A training loop that measures its parts, alone and together, and ends."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size

from msn_mm.engine.bound import Measured
from msn_mm.engine.loops.exact_epoch_loop import ExactEpochLoop
from msn_mm.engine.optimizer_steps import passes_of_a_step
from msn_mm.registry import LOOPS
from msn_mm.utils.cpu_cores import cpu_cores

_ROUNDS = 3
_WARM_UP = 2
# Batch norm has no meaning on one image.
_LEAST_HALF = 2
# So many images tell what one costs.
_MOST_SAMPLES = 64

Context = Callable[[], AbstractContextManager[Any]]


@LOOPS.register_module()
class MeasuringLoop(ExactEpochLoop):
    """Time the input, the step on a batch in memory, and both, in turn.

    A step is the whole of MMEngine's iteration: the device's half of the
    augmentations, forward, backward, optimizer, and all hooks of an iteration. Each
    measure is the median of a few rounds, and a round goes through all measures, so
    a change of the machine's speed touches all. Nothing is saved or evaluated.

    Args:
        runner: The runner.
        dataloader: The data loader, or its config; its workers must not be persistent.
        max_epochs: As in training: schedules follow it.
        steps: Steps of one measure, over all its rounds.
        try_amp: Whether to time the step in bfloat16 as well.
        **kwargs: As :class:`ExactEpochLoop`.

    Attributes:
        measured: What was found, after :meth:`run`; the slowest process counts.
    """

    _epoch: int

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_epochs: int,
        steps: int = 21,
        try_amp: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self._a_round = math.ceil(steps / _ROUNDS)
        self._try_amp = try_amp
        self.measured: Measured | None = None

    def _run(self) -> torch.nn.Module:
        self.runner.call_hook("before_train")
        self._restored()
        self.runner.model.train()
        # A round holds whole optimizer steps.
        passes = passes_of_a_step(self.runner.optim_wrapper)
        self._a_round = math.ceil(self._a_round / passes) * passes
        loader = self.dataloader
        few = max(loader.batch_size // 2, 1)
        with _one_thread():
            samples, image_s, image_wall_s = self._samples(min(few, _MOST_SAMPLES))
        whole = next(self._batches())
        half = loader.collate_fn(list(islice(cycle(samples), few)))
        device = next(self.runner.model.parameters()).device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        measures: dict[str, Callable[[], float]] = {
            "input_s": self._input,
            "step_s": lambda: self._steps(repeat(whole)),
            "both_s": lambda: self._steps(self._batches()),
        }
        if few >= _LEAST_HALF:
            measures["half_step_s"] = lambda: self._steps(repeat(half))
        if self._try_amp:
            amp = lambda: torch.autocast(device.type, dtype=torch.bfloat16)  # noqa: E731
            measures["amp_step_s"] = lambda: self._steps(repeat(whole), amp)
        silence = getattr(self.runner.model, "no_sync", None)
        if get_world_size() > 1 and silence is not None:
            measures["silent_step_s"] = lambda: self._steps(repeat(whole), silence)
        clock, own = time.perf_counter(), _own_clock()
        rounds = [{name: work() for name, work in measures.items()} for _ in range(_ROUNDS)]
        # A second of the clock in which this thread could go on only in a part.
        busy = 1 - (_own_clock() - own) / (time.perf_counter() - clock)
        names = [*measures, "image_s", "image_wall_s", "busy"]
        found = [statistics.median(one[name] for one in rounds) for name in measures]
        times = torch.tensor([*found, image_s, image_wall_s, busy], device=device)
        all_reduce(times, op="max")
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.measured = Measured(
            batch=loader.batch_size,
            processes=get_world_size(),
            accumulation=passes,
            workers=loader.num_workers,
            cores=max(1, cpu_cores() // processes_here),
            on_gpu=device.type == "cuda",
            threads=torch.get_num_threads(),
            memory=_memory(device),
            **dict(zip(names, times.tolist(), strict=True)),
        )
        return self.runner.model

    def _samples(self, count: int) -> tuple[list[Any], float, float]:
        """Load images in this process; return them, seconds of a core and of the clock for one."""
        data = self.dataloader.dataset
        keys = list(islice(chain.from_iterable(repeat(self.dataloader.sampler)), count + 1))
        data[keys[0]]  # what is set up at the first image is no part of one
        core, clock = time.process_time(), _own_clock()
        samples = [data[key] for key in keys[1:]]
        core_s, wall_s = time.process_time() - core, _own_clock() - clock
        return samples, core_s / count, wall_s / count

    def _batches(self) -> Iterator[Any]:
        """Yield batches, epoch after epoch, as the training would get them."""
        while True:
            self.runner.call_hook("before_train_epoch")
            yield from self._start(0)
            self._epoch = (self._epoch + 1) % self._max_epochs

    def _input(self) -> float:
        """Return seconds a batch of the input alone."""
        workers = self.dataloader.num_workers
        batches = self._batches()
        # Each worker's first batch waits for its start; they come in turns from then on.
        for _ in range(max(workers, _WARM_UP)):
            next(batches)
        count = math.ceil(self._a_round / max(workers, 1)) * max(workers, 1)
        begun = time.perf_counter()
        for _ in range(count):
            next(batches)
        seconds = (time.perf_counter() - begun) / count
        batches.close()  # type: ignore[attr-defined]
        return seconds

    def _steps(self, batches: Iterator[Any], context: Context = nullcontext) -> float:
        """Return seconds a pass over these batches."""
        passes = passes_of_a_step(self.runner.optim_wrapper)
        warm_up = math.ceil(_WARM_UP / passes) * passes
        with context():
            self._passes(islice(batches, warm_up))
            begun = time.perf_counter()
            self._passes(islice(batches, self._a_round))
            seconds = (time.perf_counter() - begun) / self._a_round
        if hasattr(batches, "close"):
            batches.close()
        return seconds

    def _passes(self, batches: Iterator[Any]) -> None:
        for number, batch in enumerate(batches):
            # Schedules know no iteration beyond the last.
            self._iter = number % self._max_iters
            self.run_iter(number, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread, as in a data worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _own_clock() -> float:
    """Return seconds of the clock, without those in which others had this thread's core.

    Linux tells how long a thread was ready and not run; elsewhere all seconds count.
    """
    try:
        waited_ns = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        waited_ns = 0
    return time.perf_counter() - waited_ns * 1e-9


def _memory(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    whole = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_allocated(device) / whole
