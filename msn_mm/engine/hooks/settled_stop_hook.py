"""End a pre-training that has settled, or collapsed, before its schedule does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine.distributed import decided_by_first
from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from msn_mm.engine.loops.exact_epoch_loop import ExactEpochLoop
from msn_mm.engine.settling import ScoreWatch, has_settled
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS

# What the monitor announces and a training seldom recovers from, and how many looks in a row
# must have found it.
_COLLAPSED = ("constant representation", "uniform predictions")
_LOOKS = 3


class TrainingCollapsed(UserError):
    """A training that learns nothing any more was ended."""


@HOOKS.register_module()
class SettledStopHook(Hook):
    """Stop when accuracy on a few labels, or else the collapse monitor's quantities, have settled.

    With a metric that keeps ``right``, the share of right answers for each labelled image
    (:class:`~msn_mm.evaluation.few_labels_metric.FewLabelsMetric`), a validation is a
    measurement, and the training has settled when ``patience`` of them brought no gain
    beyond their noise (:class:`~msn_mm.engine.settling.ScoreWatch`). Without, every
    ``interval`` epochs the means of ``loss``, ``rank_me`` and, of methods with prototypes,
    ``mean_entropy`` since the last time are one, and all must have stopped moving
    (:func:`~msn_mm.engine.settling.has_settled`).

    Then the learning rate falls linearly to zero within ``cool_down`` of the epochs so
    far, and the training ends as at its last epoch: validated and saved whole. A
    schedule that was to reach zero later would leave noise in the weights that this
    removes; source: Hägele et al. 2024, arXiv 2405.18392. The first process decides for
    all, at an epoch's end, and the decision is part of the checkpoint.

    A collapse that the monitor has announced, and that three looks in a row find still there,
    ends the training: a new one begins uniform, so not within the first ``begin`` of the
    epochs, nor the first ``collapse_steps``.

    Args:
        interval: Epochs between two measurements of the monitor's quantities.
        patience: Validations without a gain.
        begin: Share of the epochs before which nothing has settled.
        tolerance: Share by which a settled quantity may move over a window.
        cool_down: Epochs of falling learning rate, as a share of those so far; 0 for none.
        collapse_steps: Iterations that every training gets to leave its uniform start.

    Attributes:
        reason: Why the training ends early, a sentence; None while it does not.

    Raises:
        ValueError: A number is impossible.
        UserError: Before training, if the loop is not by epochs or the config has no
            collapse monitor.
        TrainingCollapsed: In training.
    """

    # Behind the measurements of an iteration, before the schedules move (LOW) and the
    # checkpoint is written.
    priority = "NORMAL"

    def __init__(
        self,
        interval: int = 1,
        patience: int = 6,
        begin: float = 0.25,
        tolerance: float = 0.03,
        cool_down: float = 0.1,
        collapse_steps: int = 500,
    ) -> None:
        if interval < 1 or patience < 1 or tolerance <= 0:
            raise ValueError(
                f"interval {interval} and patience {patience} must be at least 1, and tolerance "
                f"{tolerance} above 0"
            )
        if not 0.0 <= begin <= 1.0 or not 0.0 <= cool_down <= 1.0:
            raise ValueError(f"begin {begin} and cool_down {cool_down} must lie in [0, 1]")
        self.interval = interval
        self.begin = begin
        self.tolerance = tolerance
        self.cool_down = cool_down
        self.collapse_steps = collapse_steps
        self.reason: str | None = None
        self._score = ScoreWatch(patience)
        self._series: dict[str, list[float]] = {}
        self._collapses: dict[str, int] = {}
        self._ends: tuple[int, int] | None = None
        """The epochs that are over when the rate begins to fall and when training ends."""
        self._loop: ExactEpochLoop | None = None
        self._rates: list[float] = []

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not isinstance(loop, ExactEpochLoop):
            raise UserError("SettledStopHook needs a training by epochs (train_cfg.max_epochs)")
        if _monitor(runner) is None:
            raise UserError("SettledStopHook needs CollapseMonitorHook in custom_hooks")
        self._loop = loop

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Lower the rate that the schedule gives, for this step alone."""
        if self._ends is None:
            return
        factor = self._factor(runner)
        groups = runner.optim_wrapper.param_groups
        self._rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] *= factor
        runner.message_hub.update_scalar("train/cool_down", factor)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Give the rate back to the schedule, which goes from value to value."""
        for group, rate in zip(runner.optim_wrapper.param_groups, self._rates, strict=False):
            group["lr"] = rate
        self._rates = []

    def after_train_epoch(self, runner: Runner) -> None:
        """Look for a collapse and, without labels, whether all has settled."""
        done = runner.epoch + 1
        monitor = _monitor(runner)
        assert monitor is not None

        def look() -> tuple[str | None, str | None]:
            if done % self.interval:
                return None, None
            if self._may_end(done) and runner.iter >= self.collapse_steps:
                looks = self._collapses
                self._collapses = {
                    name: looks.get(name, 0) + 1 for name in _COLLAPSED if name in monitor.announced
                }
            for name, times in self._collapses.items():
                if times >= _LOOKS:
                    return name, None
            for name, value in monitor.take_readings().items():
                self._series.setdefault(name, []).append(value)
            # Of the saved state: a resumed process has measured nothing itself yet.
            is_labelled = self._score.best is not None
            if not is_labelled and self._ends is None and self._may_end(done):
                return None, self._settled()
            return None, None

        collapsed, why = decided_by_first(look)
        if collapsed is not None:
            raise TrainingCollapsed(
                f"stopped after epoch {done}: collapse, {collapsed}: "
                f"{monitor.told.get(collapsed, 'see the log')}. Begin anew in another directory "
                f"(--out), with {_rate(runner) / 2:.2g} in place of {_rate(runner):.2g} as the "
                "learning rate (msn-mm pretrain --lr)"
            )
        if why is not None:
            self._end(runner, done, why)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Count a measurement of labelled images."""

        def look() -> str | None:
            right = _right(runner)
            if right is None or self._ends is not None:
                return None
            settled = self._score.add(right)
            if not settled or not self._may_end(runner.epoch):
                return None
            return (
                f"{self._score.since} measurements on the labelled images brought no gain beyond "
                f"their noise over {self._score.best:.1f} %"
            )

        why = decided_by_first(look)
        if why is not None:
            self._end(runner, runner.epoch, why)

    def state_dict(self) -> dict[str, Any]:
        """Return series, decision and reason."""
        return {
            "score": self._score.state_dict(),
            "series": {name: list(values) for name, values in self._series.items()},
            "collapses": dict(self._collapses),
            "ends": None if self._ends is None else list(self._ends),
            "reason": self.reason,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the saved run would have."""
        self._score.load_state_dict(state["score"])
        self._series = {name: list(values) for name, values in state["series"].items()}
        self._collapses = dict(state["collapses"])
        self.reason = state["reason"]
        ends = state["ends"]
        self._ends = None if ends is None else (int(ends[0]), int(ends[1]))
        if self._ends is not None and self._loop is not None:
            self._loop.end_after(self._ends[1])

    def _may_end(self, done: int) -> bool:
        assert self._loop is not None
        return done >= self.begin * self._loop.max_epochs

    def _settled(self) -> str | None:
        series = self._series
        if not series or not all(has_settled(v, self.tolerance) for v in series.values()):
            return None
        names = _spell(list(series))
        return f"{names} have settled (they move by less than {self.tolerance:.0%})"

    def _end(self, runner: Runner, done: int, why: str) -> None:
        assert self._loop is not None
        last = done + math.ceil(self.cool_down * done)
        if last >= self._loop.max_epochs:
            return  # the schedule gets there no later
        self._ends = (done, last)
        self.reason = f"after epoch {done} of {self._loop.max_epochs}, {why}"
        cooling = ", the learning rate falling to 0 until then" if last > done else ""
        runner.logger.info(f"{self.reason}; training ends after epoch {last}{cooling}")
        self._loop.end_after(last)

    def _factor(self, runner: Runner) -> float:
        assert self._ends is not None and self._loop is not None
        length = len(self._loop.dataloader)
        first, last = (epoch * length for epoch in self._ends)
        return max(0.0, (last - runner.iter) / (last - first)) if last > first else 1.0


def _monitor(runner: Runner) -> CollapseMonitorHook | None:
    return next((hook for hook in runner.hooks if isinstance(hook, CollapseMonitorHook)), None)


def _right(runner: Runner) -> Sequence[float] | None:
    """Return the last measurement on labelled images, None where there is none."""
    evaluator = getattr(runner.val_loop, "evaluator", None)
    for metric in getattr(evaluator, "metrics", ()):
        if hasattr(metric, "right"):
            right: Sequence[float] = metric.right
            return right or None
    return None


def _rate(runner: Runner) -> float:
    """Return the learning rate that the config states."""
    return float(runner.cfg.optim_wrapper.optimizer.lr)


def _spell(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
