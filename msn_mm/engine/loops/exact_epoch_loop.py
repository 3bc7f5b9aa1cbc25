"""A training loop over epochs that can go on anywhere, bitwise."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from msn_mm.engine.loops.progress import Progress
from msn_mm.engine.loops.skipping import can_skip, images_a_step, skip_images
from msn_mm.engine.loops.worker_signals import end_workers, outlive_first_sigterm
from msn_mm.engine.optimizer_steps import passes_of_a_step
from msn_mm.engine.stopped import TrainingStopped
from msn_mm.registry import LOOPS


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, resumed at the very next image.

    MMEngine's own begins the epoch again. This one leaves out what was seen, by
    index: nothing is read twice. Starting a data loader draws from a generator
    of its own, so that the number of workers and of restarts leaves the
    training's random numbers alone. A validation that was cut short or had not
    begun when its epoch was saved is made up for.

    Args:
        runner: the runner.
        dataloader: the data loader, or its config.
        max_epochs: epochs in all.
        **kwargs: further arguments of MMEngine's ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner: Any, dataloader: Any, max_epochs: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        self._seen = 0  # images of this epoch, by all processes
        self._validation_due = False
        self._first = 0  # number of the next epoch's first iteration within it
        self._restore: Callable[[], None] | None = None

    def progress(self, epoch: int, iteration: int) -> Progress:
        """Return where the run stands.

        Args:
            epoch: epochs that are over, as the checkpoint counts them: one more
                than the loop's while the end of an epoch is told to the hooks.
            iteration: iterations that are over.
        """
        sampler = self.dataloader.sampler
        optim_wrapper = self.runner.optim_wrapper
        return Progress(
            epoch=epoch,
            iter=iteration,
            images=self._seen if epoch == self._epoch else 0,
            validation_due=self._validation_due or (epoch > self._epoch and self._validates(epoch)),
            epoch_length=len(self.dataloader),
            world_size=get_world_size(),
            batch=images_a_step(self.dataloader),
            accumulation=passes_of_a_step(optim_wrapper),
            total=len(self.dataloader.dataset),
            seed=getattr(sampler, "seed", None),
        )

    def go_on_from(self, saved: Progress, restore: Callable[[], None]) -> Progress:
        """Begin :meth:`run` where a saved run stood.

        Args:
            saved: where it stood, perhaps under other settings.
            restore: brings back what the training must find at its first step;
                called when everything before that step has been done.

        Returns:
            The same place under the settings of this run.
        """
        self._restore = restore
        self._validation_due = saved.validation_due and self.runner.val_loop is not None
        sampler = self.dataloader.sampler
        if saved.seed is not None and hasattr(sampler, "seed"):
            # A run without a seed drew one; its permutation goes on.
            sampler.seed = saved.seed
        now = self.progress(saved.epoch, saved.iter)
        for line in saved.lost_to(now):
            self.runner.logger.warning(line)
        self._seen = saved.images
        if saved.images == 0:
            self._first = 0
        elif can_skip(self.dataloader):
            self._first = len(self.dataloader) - skip_images(self.dataloader, saved.images)
        else:
            self._first = -(-saved.images // now.batch)
            self.runner.logger.warning(
                "the order of this train_dataloader (its sampler or batch_sampler) is known only "
                f"by reading it: {self._first} batches are read again to go on behind them; "
                "KeyedSampler goes there at once, and exactly"
            )
        iteration = saved.epoch * len(self.dataloader) + self._first
        return replace(now, iter=iteration, images=saved.images)

    def end_after(self, epoch: int) -> None:
        """End when so many epochs are over, as if they were all; schedules keep their length."""
        self._max_epochs = epoch

    def run(self) -> torch.nn.Module:
        """Train."""
        together = False
        try:
            model = self._run()
            together = True
            return model
        except TrainingStopped:
            together = True
            raise
        finally:
            for loader in self._loaders():
                end_workers(loader)
            for hook in self.runner.hooks:
                # A run that ended by an error tells no hook; signals would stay with it.
                if hasattr(hook, "release"):
                    hook.release(together)

    def _loaders(self) -> list[DataLoader]:
        validation = getattr(self.runner.val_loop, "dataloader", None)
        return [one for one in (self.dataloader, validation) if isinstance(one, DataLoader)]

    def _run(self) -> torch.nn.Module:
        for loader in self._loaders():
            outlive_first_sigterm(loader)
        self.runner.call_hook("before_train")
        if self._first == 0:
            self._restored()
        if self._validation_due:
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self._validates(self._epoch):
                self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for an epoch, or for what is left of one."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first, self._first = self._first, 0
        batches = self._start(first)
        self._restored()
        for idx, data_batch in enumerate(batches, start=first):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self._seen = 0
        if can_skip(self.dataloader):
            skip_images(self.dataloader, 0)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on a batch."""
        self._seen += images_a_step(self.dataloader)
        super().run_iter(idx, data_batch)

    def validated(self) -> None:
        """Count the validation that is under way as done."""
        self._validation_due = False

    def _start(self, first: int) -> Iterator[Any]:
        loader = self.dataloader
        loader.generator = torch.Generator().manual_seed(self.runner.seed + self._epoch)
        if first >= len(loader):
            return iter(())
        batches = iter(loader)
        if first and not can_skip(loader):
            for _ in range(first):
                next(batches)
        return batches

    def _restored(self) -> None:
        restore, self._restore = self._restore, None
        if restore is not None:
            restore()

    def _validates(self, epoch: int) -> bool:
        if self.runner.val_loop is None or epoch < self.val_begin:
            return False
        interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, epoch + 1) - 1]
        return epoch % interval == 0 or epoch == self._max_epochs

    def _validate(self) -> None:
        self._validation_due = True
        self.runner.val_loop.run()
        self._validation_due = False
