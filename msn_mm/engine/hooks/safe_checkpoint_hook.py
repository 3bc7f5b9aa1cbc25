"""MMEngine's checkpoint hook, made safe to load, to kill and to resume anywhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from msn_mm.engine.distributed import collective_timeout
from msn_mm.engine.hooks.exact_checkpoint_hook import ExactCheckpointHook
from msn_mm.engine.step_vote import StepVote
from msn_mm.registry import HOOKS

_ROLLING = "rolling_ckpt_ids"
# Iterations between two looks of the first process at its clock.
_LOOK = 5


@HOOKS.register_module()
class SafeCheckpointHook(ExactCheckpointHook):
    """Write checkpoints that are whole, load with ``weights_only=True`` and resume exactly.

    A checkpoint is written at an epoch's end as MMEngine does and, within an
    epoch, as ``iter_N.pth``: always behind an optimizer step, so that no
    gradient is lost; with ``by_epoch=False`` behind the one in which the
    interval ends. The hook runs behind every priority but ``LOWEST``, so it also
    cleans what others add.

    Args:
        max_keep_ckpts: how many checkpoints to keep, ``-1`` for all. At least
            two, so that one stays when another turns out to be damaged.
        max_history: how many past values of each logged scalar to carry on. A
            value costs a copy of the whole history, and a checkpoint holds it
            all: without a bound a million steps take milliseconds each to log
            and add hundreds of megabytes.
        every_minutes: save when so much time has passed since the last save, by
            the first process's clock; ``None`` for never.
        every_iters: save each time so many iterations are over, beside the
            saves at epochs' ends; ``None`` for never.
        max_keep_iters: how many of the ``iter_N.pth`` to keep, ``-1`` for all.
        **kwargs: arguments of :class:`ExactCheckpointHook`, ``DurableCheckpointHook``
            and MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: when a number to keep is 0 or 1, or another number is not
            positive.
    """

    # MMEngine's is VERY_LOW (90), and custom hooks of that priority would run behind it.
    priority = 95

    def __init__(
        self,
        *args: Any,
        max_keep_ckpts: int = 2,
        max_history: int = 10_000,
        every_minutes: float | None = 10.0,
        every_iters: int | None = None,
        max_keep_iters: int = 2,
        **kwargs: Any,
    ) -> None:
        for name, keep in (("max_keep_ckpts", max_keep_ckpts), ("max_keep_iters", max_keep_iters)):
            if keep != -1 and keep < 2:
                raise ValueError(f"{name} must be -1 or at least 2, not {keep}")
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, not {max_history}")
        for name, value in (("every_minutes", every_minutes), ("every_iters", every_iters)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive or None, not {value}")
        self.max_history = max_history
        self.every_minutes = every_minutes
        self.every_iters = every_iters
        self.max_keep_iters = max_keep_iters
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._saved_clock = time.monotonic()
        self._wanted = False
        self._clock_vote = StepVote()

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        super().before_train(runner)
        if self.every_minutes is not None:
            self._clock_vote.open(collective_timeout(runner.cfg))
        self._saved_clock = time.monotonic()

    def after_train(self, runner: Runner) -> None:
        """End the exchange among the processes."""
        self.release()
        super().after_train(runner)

    def release(self, together: bool = True) -> None:
        """End the exchange; wait for the last one only when all processes do so (``together``)."""
        self._clock_vote.release(together)

    def write_checkpoint(
        self, runner: Runner, filename: str, meta: dict[str, Any], by_epoch: bool
    ) -> bool:
        """Write one checkpoint and start the clock again."""
        try:
            written = super().write_checkpoint(runner, filename, meta, by_epoch)
        finally:
            self._saved_clock = time.monotonic()
        # What was voted before this save must not ask for another one.
        self._clock_vote.close()
        self._wanted = False
        return written

    def save_here(self, runner: Runner, iterations: int) -> Path | None:
        """Save within an epoch, as ``iter_N.pth``; all ranks must call, after an optimizer step.

        Args:
            runner: the runner.
            iterations: iterations that are over.

        Returns:
            The file, or ``None`` when it could not be written.
        """
        name = f"iter_{iterations}.pth"
        kept = list(runner.message_hub.get_info(_ROLLING, []))
        kept = [number for number in kept if number != iterations] + [iterations]
        runner.message_hub.update_info(_ROLLING, kept)
        meta = {"epoch": runner.epoch, "iter": iterations}
        if not self.write_checkpoint(runner, name, meta, by_epoch=False):
            kept.pop()
        while self.max_keep_iters > 0 and len(kept) > self.max_keep_iters:
            self._forget(kept.pop(0))
        runner.message_hub.update_info(_ROLLING, kept)
        return Path(str(self.out_dir), name) if iterations in kept else None

    def _forget(self, iterations: int) -> None:
        path = self.file_backend.join_path(self.out_dir, f"iter_{iterations}.pth")
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Bound the histories now and then, new scalars' too, and save when it is time."""
        if batch_idx == 0 or self.every_n_train_iters(runner, 1000):
            for history in runner.message_hub.log_scalars.values():
                # The history cuts itself at its next value.
                history.max_length = self.max_history
        # MMEngine's own would save here, amid an optimizer step too.
        self._look_at_clock(runner)
        done = runner.iter + 1
        if self.every_iters is not None and done % self.every_iters == 0:
            self._wanted = True
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval, self.save_begin):
            self._wanted = True
        last = not self.by_epoch and self.save_last and self.is_last_train_iter(runner)
        if not last and not (self._wanted and runner.optim_wrapper.should_update()):
            return
        self._wanted = False
        if not self.by_epoch:
            runner.logger.info(f"Saving checkpoint at {done} iterations")
            self._save_checkpoint(runner)
        elif not self._epoch_save_follows(runner, batch_idx):
            runner.logger.info(f"Saving checkpoint at {done} iterations")
            self.save_here(runner, done)

    def _look_at_clock(self, runner: Runner) -> None:
        if self.every_minutes is None or not self.every_n_train_iters(runner, _LOOK):
            return
        due = time.monotonic() - self._saved_clock >= 60 * self.every_minutes
        if self._clock_vote.cast(int(due and runner.rank == 0)):
            self._wanted = True

    def _epoch_save_follows(self, runner: Runner, batch_idx: int) -> bool:
        return self.end_of_epoch(runner.train_dataloader, batch_idx) and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        )
