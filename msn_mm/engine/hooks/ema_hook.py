"""The target network follows the anchor network by exponential moving average."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from msn_mm.engine.optimizer_steps import passes_of_a_step, steps_in
from msn_mm.errors import UserError, did_you_mean
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import MOMENTUM_SCHEDULES, ema_update_
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class EMAHook(Hook):
    """Update the target network after every real optimizer step.

    The model names what follows what by ``ema_pairs() -> [(source, target), ...]``.
    Parameters alone are averaged: the target's batch norm keeps running
    statistics of its own batches. Under gradient accumulation nothing moves
    between optimizer steps. The momentum is a function of the step's number, so a
    resumed run goes on exactly.

    Args:
        momentum: Weight of the old target at the first step.
        end_momentum: Weight at the last step, reached exactly.
        schedule: How it gets from one to the other: ``linear`` (MSN) or ``cosine``
            (BYOL, DINO, MoCo v3).

    Raises:
        ValueError: If a momentum lies outside [0, 1].
        UserError: For another schedule; before training, if the model has no
            ``ema_pairs``.
    """

    # After the optimizer step, before hooks that log, validate or save.
    priority = "ABOVE_NORMAL"

    def __init__(
        self, momentum: float = 0.996, end_momentum: float = 1.0, schedule: str = "linear"
    ) -> None:
        for name, value in (("momentum", momentum), ("end_momentum", end_momentum)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"EMAHook's {name} is {value}; it must lie in [0, 1]")
        if schedule not in MOMENTUM_SCHEDULES:
            known = list(MOMENTUM_SCHEDULES)
            raise UserError(
                f"EMAHook's schedule is '{schedule}'.{did_you_mean(schedule, known)} "
                f"There are {' and '.join(known)}"
            )
        self._momentum_of = MOMENTUM_SCHEDULES[schedule]
        self.momentum = momentum
        self.end_momentum = end_momentum
        self._sources: list[Tensor] = []
        self._targets: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, "ema_pairs"):
            raise UserError(
                f"EMAHook needs a model with ema_pairs(); {type(model).__name__} has none: "
                "remove the hook from custom_hooks"
            )
        self._sources, self._targets = [], []
        for source, target in model.ema_pairs():
            sources, targets = dict(source.named_parameters()), dict(target.named_parameters())
            if sources.keys() != targets.keys():
                odd = sorted(sources.keys() ^ targets.keys())
                raise ValueError(f"source and target differ in parameters: {odd[:3]}")
            # Source and target are sharded alike, so the parts of a process match.
            self._sources += [local_part(sources[name].detach()) for name in targets]
            self._targets += [local_part(parameter.detach()) for parameter in targets.values()]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not runner.optim_wrapper.should_update():
            return
        # A step that was not taken moves no target.
        skip = getattr(runner.optim_wrapper, "skipped", None)
        if skip is not None and _on_host(skip):
            if skip:
                return
            skip = None
        passes = passes_of_a_step(runner.optim_wrapper)
        momentum = self._momentum_of(
            runner.iter // passes,
            steps_in(runner.max_iters, passes),
            self.momentum,
            self.end_momentum,
        )
        ema_update_(self._targets, self._sources, momentum, skip)
        runner.message_hub.update_scalar("train/ema_momentum", momentum)


def _on_host(flag: Tensor) -> bool:
    return flag.device.type == "cpu"
