"""Steps without a finite loss or gradient: skipped, counted, and too many in a row refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.engine.optim.finite_guard import FiniteGuard, Verdict
from msn_mm.engine.optim.group_optim_wrapper import AmpGroupOptimWrapper, GroupOptimWrapper
from msn_mm.errors import UserError
from msn_mm.models.ops.finite import magnitude
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class NonFiniteStepsHook(Hook):
    """Skip optimizer steps whose loss or gradients are not finite.

    Such a step leaves weights, optimizer moments, target network and
    batch-norm statistics bitwise as they were; schedules go on. The scalar
    ``skipped_steps`` counts them, once there is one, and in the log a skipped
    step's losses are the last finite ones. After ``max_in_a_row`` of them the
    run stops and names the quantity that first was not finite. Weights that
    are not finite are never written to a checkpoint.

    The work is done by a :class:`msn_mm.engine.optim.finite_guard.FiniteGuard`
    in the optimizer wrapper, which adds no wait for a GPU to those of MMEngine's
    loop: there, what is told here comes a few steps later.

    Args:
        max_in_a_row: Skipped steps in a row after which the run stops.

    Raises:
        ValueError: If ``max_in_a_row`` is below 1.
        UserError: While training, after so many skipped steps; when saving, if a
            weight or moment is not finite.
    """

    # Before the hook that logs the losses, and long before the one that saves.
    priority = "HIGHEST"

    def __init__(self, max_in_a_row: int = 10) -> None:
        if max_in_a_row < 1:
            raise ValueError(f"max_in_a_row must be 1 or more, got {max_in_a_row}")
        self.max_in_a_row = max_in_a_row
        self._heard = Verdict()
        self._first = 0
        self._guard: FiniteGuard | None = None
        self._iterations: deque[int] = deque()
        self._last: dict[str, Tensor] = {}

    @property
    def total(self) -> int:
        """Skipped steps of the whole run, as far as the host knows."""
        return self._heard.total

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know: the count, the present row, the last losses.

        Verdicts that the device still holds are waited for, and none is taken
        from those that are yet to be told.
        """
        unread = [] if self._guard is None else self._guard.unread()
        begun = [n for n, v in zip(self._iterations, unread, strict=True) if v.in_a_row == 1]
        return {
            **[self._heard, *unread][-1]._asdict(),
            "first": [self._first, *begun][-1],
            "last": {name: value.cpu() for name, value in self._last.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, within a row of skipped steps too."""
        self._heard = Verdict(
            int(state.get("in_a_row", 0)), int(state["total"]), str(state.get("culprit", ""))
        )
        self._first = int(state.get("first", 0))
        self._last = dict(state.get("last", {}))
        self._iterations.clear()
        if self._guard is not None:
            self._guard.go_on_from(self._heard)

    def before_train(self, runner: Runner) -> None:
        """Give the optimizer wrapper its guard."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, GroupOptimWrapper):
            self._guard = wrapper.guard = FiniteGuard()
            self._guard.go_on_from(self._heard)
        else:
            runner.logger.warning(
                "steps with a loss that is not finite are not skipped: optim_wrapper.type is "
                f"{type(wrapper).__name__}; set GroupOptimWrapper"
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Hear the verdict on this step, or on one some steps ago; tell, count, judge."""
        guard = getattr(runner.optim_wrapper, "guard", None)
        if guard is None:
            return
        if outputs is not None:
            self._keep_finite(outputs)
        if not runner.optim_wrapper.should_update():
            return
        self._iterations.append(runner.iter + 1)
        verdict = guard.read()
        if verdict is not None:
            self._hear(runner, verdict)

    def after_train(self, runner: Runner) -> None:
        """Hear the verdicts that are still on their way."""
        guard = getattr(runner.optim_wrapper, "guard", None)
        while guard is not None and (verdict := guard.read(wait=True)) is not None:
            self._hear(runner, verdict)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights or moments that are not finite."""
        for part in ("state_dict", "optimizer"):
            for name, value in _tensors(checkpoint.get(part, {})):
                if value.is_floating_point() and not bool(value.isfinite().all()):
                    raise UserError(
                        f"no checkpoint is written at iteration {runner.iter}: {part} {name} is "
                        f"not finite; {_newest(runner)}; {_advice(runner, name)}"
                    )

    def _hear(self, runner: Runner, verdict: Verdict) -> None:
        iteration = self._iterations.popleft()
        self._heard = verdict
        if verdict.in_a_row == 0:
            return
        runner.message_hub.update_scalar("train/skipped_steps", self.total)
        if verdict.in_a_row == 1:
            self._first = iteration
            runner.logger.warning(
                f"not finite at iteration {iteration}: {verdict.culprit}; the step is skipped"
            )
        if verdict.in_a_row >= self.max_in_a_row:
            raise UserError(
                f"{verdict.in_a_row} steps in a row were not finite, the first at iteration "
                f"{self._first}, there first of all {verdict.culprit}{_lost(runner)}; "
                f"{_newest(runner)}; {_advice(runner, verdict.culprit)}"
            )

    def _keep_finite(self, outputs: dict[str, Any]) -> None:
        for name, value in outputs.items():
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.detach()
                if name in self._last:
                    before = self._last[name].to(value.device, non_blocking=True)
                    value = torch.where(value.isfinite(), value, before)
                outputs[name] = self._last[name] = value


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _tensors(value, f"{name}.{number}")


def _lost(runner: Runner) -> str:
    # A step that was taken can still overflow a weight; then all that follows is its fault.
    for name, weight in runner.model.named_parameters():
        if magnitude(weight).isfinite().logical_not():
            return f", because the weight {name.removeprefix('module.')} is not finite"
    return ""


def _newest(runner: Runner) -> str:
    try:
        return f"the newest checkpoint is {find_resumable(runner.work_dir)[0].name}"
    except UserError:
        return "there is no checkpoint yet"


def _advice(runner: Runner, culprit: str) -> str:
    if culprit == "the views":
        return "look at the images and at data_preprocessor's mean and std"
    model = getattr(runner.model, "module", runner.model)
    masks = ["raise model.mask_ratio"] if hasattr(model, "mask_ratio") else []
    knobs = ["lower the learning rate", *masks, "clip gradients"]
    if isinstance(runner.optim_wrapper, AmpGroupOptimWrapper):
        knobs.append("train without bfloat16 (--amp)")
    return f"{', '.join(knobs[:-1])} or {knobs[-1]}"
