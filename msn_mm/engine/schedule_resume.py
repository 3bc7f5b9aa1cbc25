"""Schedules of a resumed run: the checkpoint's where they are the config's, else the config's.

MMEngine always takes the checkpoint's, so a run that is resumed with more
epochs would end where it first was to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import Runner

from msn_mm.engine.checkpointing import to_plain
from msn_mm.engine.optimizer_steps import passes_of_a_step

# What a scheduler's state holds beside its settings.
_MOVING = ("last_step", "_global_step", "_last_value", "verbose")
# Steps whose replay a user would notice.
_LONG = 100_000


class ScheduleReplay:
    """The config's schedules, brought to a step by running them from the start.

    Args:
        runner: a runner whose schedulers are new, before it loads an optimizer's state.
    """

    def __init__(self, runner: Runner) -> None:
        self._schedulers = list(runner.param_schedulers)
        groups = runner.optim_wrapper.param_groups
        self._first = {
            name: [group[name] for group in groups]
            for name in {scheduler.param_name for scheduler in self._schedulers}
        }

    def run(self, runner: Runner, epochs: int, iterations: int) -> None:
        """Set the optimizer's groups to what they would be after so many epochs and iterations."""
        if iterations >= _LONG:
            runner.logger.info(
                f"running the schedules up to iteration {iterations:,}, which may take half a "
                "minute a million"
            )
        groups = runner.optim_wrapper.param_groups
        for name, values in self._first.items():
            for group, value in zip(groups, values, strict=True):
                group[name] = value
        for scheduler in self._schedulers:
            name = scheduler.param_name
            for group, base in zip(groups, scheduler.base_values, strict=True):
                group[f"initial_{name}"] = base
        # The schedulers warn when they step before the optimizer; it has, long ago.
        runner.optim_wrapper._global_step = iterations
        length, passes = len(runner.train_dataloader), passes_of_a_step(runner.optim_wrapper)
        for iteration in range(1, iterations + 1):
            for scheduler in self._schedulers:
                if not scheduler.by_epoch and iteration % passes == 0:
                    scheduler.step()
            if iteration % length == 0 and iteration // length <= epochs:
                for scheduler in self._schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()


def replay_if_changed(
    runner: Runner, checkpoint: dict[str, Any], moved: bool
) -> ScheduleReplay | None:
    """Keep the config's schedules where they differ from those of a checkpoint.

    Args:
        runner: the runner that is about to load the checkpoint.
        checkpoint: its content; loses its schedulers when the config's hold.
        moved: whether the checkpoint's optimizer step has another number in this
            run (another global batch).

    Returns:
        What to run once the optimizer's state is loaded, or ``None`` when the
        checkpoint's schedules go on.
    """
    fresh, saved = runner.param_schedulers, checkpoint.get("param_schedulers")
    if not isinstance(fresh, list) or not isinstance(saved, list):
        return None
    if any(getattr(scheduler, "need_val_args", False) for scheduler in fresh):
        return None  # it follows measured values, which no replay has
    changes = _changes([scheduler.state_dict() for scheduler in fresh], saved)
    moved = moved and any(not scheduler.by_epoch for scheduler in fresh)
    if not changes and not moved:
        return None
    if changes:
        runner.logger.warning(
            f"the config's schedules differ from the checkpoint's ({', '.join(changes[:3])}"
            f"{', ...' if len(changes) > 3 else ''}): the config's hold from here on, as if they "
            "had from the start"
        )
    del checkpoint["param_schedulers"]
    return ScheduleReplay(runner)


def _changes(fresh: list[Mapping[str, Any]], saved: list[Mapping[str, Any]]) -> list[str]:
    if len(fresh) != len(saved):
        return [f"{len(saved)} schedules -> {len(fresh)}"]
    changes: list[str] = []
    for new, old in zip(map(_settings, fresh), map(_settings, saved), strict=True):
        name = new.get("param_name", "schedule")
        for key in sorted(new.keys() | old.keys()):
            if new.get(key) != old.get(key):
                change = f"{name} {key} {_spell(old.get(key))} -> {_spell(new.get(key))}"
                if change not in changes:
                    changes.append(change)
    return changes


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    plain = to_plain({k: v for k, v in state.items() if k not in _MOVING}, [])
    return {key: _comparable(value) for key, value in plain.items()}


def _comparable(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    return value


def _spell(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[0]  # of the first group
    return f"{value:.6g}" if isinstance(value, float) else str(value)
