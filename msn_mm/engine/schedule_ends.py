"""Where the schedules of a config begin and end, found by running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch.optim import AdamW

from msn_mm.engine.optimizer_steps import steps_in
from msn_mm.errors import UserError
from msn_mm.registry import PARAM_SCHEDULERS

# Steps of an epoch in the rehearsal. Training takes thousands; the last value
# differs from the real one by the schedule's slope over a fraction of an epoch.
_STEPS = 4
_LONGEST = 20_000


@dataclass(frozen=True)
class ScheduleEnds:
    """One scheduled value over a training.

    Attributes:
        name: what is scheduled.
        first: value of the first step.
        highest: highest value, and the epoch (or step) it is reached at.
        last: value of the last step.
    """

    name: str
    first: float
    highest: tuple[float, float]
    last: float
    unit: str = "epoch"

    def __str__(self) -> str:
        """Return the values as ``first, highest (when), last``."""
        high, when = self.highest
        middle = f", {high:.4g} at {self.unit} {round(when)}" if when and high > self.last else ""
        return f"{self.first:.4g} at the start{middle}, {self.last:.4g} at the end"


def check_schedules(cfg: Config) -> None:
    """Refuse a schedule that would begin after training has ended.

    Raises:
        UserError: naming the schedule, and what to set.
    """
    for index, scheduler in enumerate(_written(cfg)):
        unit = "epoch" if scheduler.get("by_epoch", True) else "iter"
        length = _length(cfg, f"max_{unit}s")
        begin = scheduler.get("begin", 0)
        if length is not None and "end" not in scheduler and begin >= length:
            raise UserError(
                f"param_scheduler.{index} ({scheduler.get('type')}) begins at {unit} {begin}, but "
                f"training ends after {length}: {_mend(cfg, index, unit, begin, length)}"
            )


def _mend(cfg: Config, index: int, unit: str, begin: int, length: int) -> str:
    passes = cfg.get("accumulation", 1) if unit == "iter" else 1
    key, shorter = f"train_cfg.max_{unit}s", f"param_scheduler.{index}.begin=1"
    shorter = f"param_scheduler.0.end=1 {shorter}" if index else shorter
    if length > 1:
        return (
            f"raise {key} above {begin * passes}, or shorten what comes before, e.g. --cfg-options "
            f"{shorter}"
        )
    # Nothing shorter fits: the one schedule needs a time before the other.
    return (
        f"raise {key} above {begin * passes}, or to 2 at least and shorten what comes before: "
        f"--cfg-options {key}={2 * passes}" + (f" {shorter}" if begin > 1 else "")
    )


def schedule_ends(cfg: Config) -> list[ScheduleEnds]:
    """Run the learning rate, weight decay and target momentum of a config to their ends.

    Args:
        cfg: a config with ``optim_wrapper.optimizer``, ``param_scheduler`` and
            ``train_cfg``; the batch should be resolved, so that the rate is the
            one that training uses.

    Raises:
        UserError: as :func:`check_schedules`.

    Returns:
        One entry for the learning rate and one for the weight decay, where the
        optimizer has them, and one for the momentum of an ``EMAHook``.
    """
    check_schedules(cfg)
    optimizer_cfg = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    loop = cfg.get("train_cfg") or {}
    by_epoch = loop.get("max_epochs") is not None
    length = _length(cfg, "max_epochs" if by_epoch else "max_iters") or 0
    ends: list[ScheduleEnds] = []
    if "lr" in optimizer_cfg and 0 < length <= _LONGEST:
        ends += _rehearse(cfg, optimizer_cfg, length, by_epoch)
    for hook in cfg.get("custom_hooks") or []:
        if isinstance(hook, Mapping) and hook.get("type") == "EMAHook":
            first, last = hook.get("momentum", 0.996), hook.get("end_momentum", 1.0)
            ends.append(ScheduleEnds("target momentum", first, (last, length), last))
    return ends


def _length(cfg: Config, key: str) -> int | None:
    """Epochs of a training, or optimizer steps where its length is given in iterations."""
    length = (cfg.get("train_cfg") or {}).get(key)
    if length is None or key == "max_epochs":
        return length
    return steps_in(length, cfg.get("accumulation", 1))


def _written(cfg: Config) -> list[Mapping[str, Any]]:
    written = cfg.get("param_scheduler") or []
    return [written] if isinstance(written, Mapping) else list(written)


def _rehearse(
    cfg: Config, optimizer_cfg: Mapping[str, Any], length: int, by_epoch: bool
) -> list[ScheduleEnds]:
    steps = _STEPS if by_epoch else 1
    optimizer = AdamW(
        [torch.nn.Parameter(torch.zeros(1))],
        lr=float(optimizer_cfg["lr"]),
        weight_decay=float(optimizer_cfg.get("weight_decay", 0.0)),
    )
    schedulers = []
    for scheduler in _written(cfg):
        settings = dict(scheduler)
        settings.setdefault("end", length)
        built = PARAM_SCHEDULERS.build(
            settings, default_args={"optimizer": optimizer, "epoch_length": steps}
        )
        schedulers.append(built)
    seen: dict[str, list[float]] = {"lr": [], "weight_decay": []}
    for step in range(length * steps):
        for name, values in seen.items():
            values.append(float(optimizer.param_groups[0][name]))
        optimizer.step()  # of no gradient; schedulers warn when it is left out
        for scheduler in schedulers:
            if not scheduler.by_epoch or (step + 1) % steps == 0:
                scheduler.step()
    names = {"lr": "learning rate", "weight_decay": "weight decay"}
    unit = "epoch" if by_epoch else "step"
    ends = []
    for name, values in seen.items():
        high = max(range(len(values)), key=values.__getitem__)
        ends.append(
            ScheduleEnds(names[name], values[0], (values[high], high / steps), values[-1], unit)
        )
    return ends
