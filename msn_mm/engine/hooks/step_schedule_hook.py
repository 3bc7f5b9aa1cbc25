"""Schedules move with the optimizer's steps."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner

from msn_mm.registry import HOOKS


@HOOKS.register_module()
class StepScheduleHook(ParamSchedulerHook):
    """MMEngine's hook for schedules, but those by iteration move after a real step alone.

    All forward passes of a step see one learning rate, that of its number among the
    steps: the same for any division of the batch. A step that was skipped counts, as
    without accumulation. :class:`~msn_mm.engine.step_runner.StepRunner` builds schedules
    of that many steps.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the schedules by iteration, if a step was due."""
        due = getattr(runner.optim_wrapper, "should_update", None)
        if due is None or due():
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
