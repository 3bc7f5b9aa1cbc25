"""MMEngine's runner with schedules that count optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from msn_mm.engine.hooks.centring_hook import check_centring
from msn_mm.engine.log_files import quieten
from msn_mm.engine.log_processor import SeparateTimesLogProcessor
from msn_mm.engine.optimizer_steps import passes_of_a_step, steps_in
from msn_mm.engine.start_file import write_start
from msn_mm.errors import UserError
from msn_mm.utils.weights_fit import misfit


class StepRunner(Runner):
    """A runner whose schedules by iteration go from one optimizer step to the next.

    MMEngine counts forward passes: a step of several passes would take the value that
    the schedule has at its last, so the division of a batch would change the training.
    :class:`~msn_mm.engine.hooks.step_schedule_hook.StepScheduleHook` moves the
    schedules that this runner builds.
    """

    def train(self) -> nn.Module:
        """Train as MMEngine does, if the hooks are there that the model needs.

        The directory of the logs gets a ``start.json``.

        Raises:
            UserError: If the model has centres that no hook moves.
        """
        check_centring(self)
        write_start(self)
        return super().train()

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load as MMEngine does; a resume goes on with the very model, or not at all.

        MMEngine leaves weights of another shape as they were built, with a warning,
        and gives the optimizer moments that do not fit its parameters.

        Raises:
            UserError: A run that resumes has another model than the checkpoint.
        """
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if self._resume:
            model = self.model.module if is_model_wrapper(self.model) else self.model
            detail = misfit(model, checkpoint["state_dict"])
            if detail is not None:
                raise UserError(
                    f"'{filename}' belongs to another model: {detail}; resume with the config that "
                    "it was trained with, or start from its weights with --load-from"
                )
        return checkpoint

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build as MMEngine does; what fills screens at every start goes to the file alone."""
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def build_log_processor(self, log_processor: Any) -> LogProcessor:
        """Build as MMEngine does, with :class:`SeparateTimesLogProcessor` where none is named."""
        if isinstance(log_processor, Mapping) and "type" not in log_processor:
            return SeparateTimesLogProcessor(**log_processor)
        return super().build_log_processor(log_processor)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """Build as MMEngine does; batches are pinned only where a GPU takes them.

        Without one torch pins nothing and warns of it. The config keeps what it says:
        the same one may train on another machine.
        """
        if isinstance(dataloader, Mapping) and not torch.cuda.is_available():
            dataloader = {**dataloader, "pin_memory": False}
        return Runner.build_dataloader(dataloader, *args, **kwargs)

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: Any) -> Any:
        """Build as MMEngine does, for epochs and a training as long as their steps."""
        passes = passes_of_a_step(optim_wrapper)
        if passes > 1:
            written = [scheduler] if isinstance(scheduler, Mapping) else list(scheduler)
            scheduler = [
                self._in_steps(one, passes) if isinstance(one, Mapping) else one for one in written
            ]
        return super()._build_param_scheduler(scheduler, optim_wrapper)

    def _in_steps(self, scheduler: Mapping[str, Any], passes: int) -> dict[str, Any]:
        length = len(self.train_dataloader)
        # Where an epoch ends within a step, it is a fraction of steps long.
        epoch_length = length / passes if length % passes else length // passes
        written = {"epoch_length": epoch_length, **scheduler}
        if not scheduler.get("by_epoch", True):
            written.setdefault("end", steps_in(self.max_iters, passes))
        return written
