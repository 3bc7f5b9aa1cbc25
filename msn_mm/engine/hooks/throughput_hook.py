"""Images a second, beside the loss in every log line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log ``images_per_s``: source images over all processes, in steady state.

    The rate is that of the last ``window`` iterations. It includes the wait
    for data and leaves out validation, checkpoints between epochs and the first
    iterations of a run, in which workers start and kernels are chosen. The
    clock is the host's alone; the hook does not wait for the device.

    Args:
        window: iterations to average over.
        warmup: iterations of a run that are not counted.
        interval: iterations between two updates of the scalar.

    Raises:
        ValueError: when ``window`` or ``interval`` is below 1, or ``warmup`` negative.
    """

    priority = "NORMAL"

    def __init__(self, window: int = 50, warmup: int = 5, interval: int = 10) -> None:
        if window < 1 or interval < 1 or warmup < 0:
            raise ValueError(
                f"window and interval must be at least 1 and warmup at least 0, "
                f"not {window}, {interval} and {warmup}"
            )
        self.warmup = warmup
        self.interval = interval
        self._recent: deque[tuple[int, float]] = deque(maxlen=window)
        self._seen = 0
        self._clock = 0.0

    @property
    def images_per_s(self) -> float | None:
        """Images one process took in a second, ``None`` before the warm-up is over."""
        seconds = sum(spent for _, spent in self._recent)
        return sum(images for images, _ in self._recent) / seconds if seconds else None

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock, so that what lies between two epochs does not count."""
        self._clock = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Count the batch and update the scalar."""
        now = time.perf_counter()
        self._seen += 1
        if self._seen > self.warmup:
            self._recent.append((_batch_length(data_batch, runner), now - self._clock))
        self._clock = now
        rate = self.images_per_s
        if rate is not None and self.every_n_train_iters(runner, self.interval):
            runner.message_hub.update_scalar("train/images_per_s", rate * runner.world_size)


def _batch_length(data_batch: Any, runner: Runner) -> int:
    """Return the number of source images of a batch: many views of one image count once."""
    if isinstance(data_batch, Mapping):
        samples = data_batch.get("data_samples")
        if isinstance(samples, Mapping) and "index" in samples:
            return len(samples["index"])
        if isinstance(samples, list | tuple):
            return len(samples)
    if isinstance(data_batch, list | tuple) and len(data_batch):
        return len(data_batch[0]) if hasattr(data_batch[0], "__len__") else len(data_batch)
    return int(runner.train_dataloader.batch_size or 1)
