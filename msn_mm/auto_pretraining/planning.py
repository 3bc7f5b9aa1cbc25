"""From a folder of images to choices, a config, and how long it will take."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass

import torch
from mmengine.config import Config

from msn_mm.auto_pretraining.choices import choose
from msn_mm.auto_pretraining.config_writer import Data, cost_of_choices, make_config
from msn_mm.auto_pretraining.image_survey import Survey
from msn_mm.auto_pretraining.length import in_time, is_enough
from msn_mm.auto_pretraining.machine import Machine
from msn_mm.auto_pretraining.settings import Choices, Wishes
from msn_mm.auto_pretraining.speed import Speed, spell_time, time_steps
from msn_mm.errors import UserError

_WIDTH = 96
# Fewer images teach an encoder little by themselves.
_FEW_IMAGES = 2_000
_TRIES = 3


@dataclass(frozen=True)
class Plan:
    """What is going to be trained.

    Attributes:
        chosen: The choices, their epochs by the measured rate.
        config: What the runner takes.
        speed: Seconds of a step, measured.
        steps: Of the whole training.
    """

    chosen: Choices
    config: Config
    speed: Speed
    steps: int

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Predicted length: likely, least, most."""
        return self.speed.range_s(self.steps)


def make_plan(machine: Machine, images: Survey, wishes: Wishes, data: Data) -> Plan:
    """Choose, time a few real steps of the choice, and fit the length to the time.

    Raises:
        UserError: The checkpoint to go on from reads other channels; and as
            :func:`~msn_mm.auto_pretraining.speed.time_steps`.
    """
    start = wishes.start
    if start is not None and start.channels != images.channels and images.channels not in (1, 3):
        raise UserError(
            f"--from: {start.name} reads {start.channels} channel(s), and the images have "
            f"{images.channels}: give a checkpoint of as many, or leave --from out"
        )
    for tries_left in range(_TRIES - 1, -1, -1):
        chosen = choose(machine, images, wishes, cost_of_choices(data))
        try:
            speed = time_steps(make_config(chosen, data))
        except torch.OutOfMemoryError:
            if not tries_left or machine.memory is None:
                raise
            # Others came, or the prediction is wrong: as if there were half as much.
            machine = dataclasses.replace(machine, memory=machine.memory // 2)
            continue
        predicted, rate = chosen.images_per_s, speed.images_per_s
        chosen = in_time(dataclasses.replace(chosen, images_per_s=rate), images.count, wishes.hours)
        if not tries_left or is_enough(chosen, images.count, wishes.hours):
            break
        # It is slower than a matrix product says: choose anew, knowing it.
        slower = machine.flops_per_s * rate / predicted
        if slower > 0.9 * machine.flops_per_s:
            break
        machine = dataclasses.replace(machine, flops_per_s=slower)
    steps = chosen.epochs * (images.count // chosen.batch)
    return Plan(chosen, make_config(chosen, data), speed, steps)


def describe(plan: Plan, machine: Machine, images: Survey, hours: float) -> str:
    """Return what was found and chosen, why, and how long it will take."""
    likely, least, most = plan.seconds
    took = f"{plan.speed.images_per_s:.3g} images/s in {plan.speed.step_s:.2g} s a step"
    rows = [("machine", str(machine), ""), ("images", str(images), "")]
    rows += [(name, *both) for name, both in plan.chosen.reasons.items()]
    rows.append(
        (
            "time",
            f"about {spell_time(likely)}",
            f"between {spell_time(least)} and {spell_time(most)}: {took}, timed just now",
        )
    )
    width = max(len(name) for name, *_ in rows)
    lines = []
    for name, value, why in rows:
        text = f"{value} ({why})" if why else value
        wrapped = textwrap.wrap(text, _WIDTH - width - 2, break_long_words=False)
        indented = f"\n{' ' * (width + 2)}".join(wrapped)
        lines.append(f"{name:<{width}}  {indented}")
    return "\n".join([*lines, *(f"note: {note}" for note in _notes(plan, machine, images, hours))])


def _notes(plan: Plan, machine: Machine, images: Survey, hours: float) -> list[str]:
    notes = list(images.notes)
    if images.broken:
        path, reason = next(iter(images.broken.items()))
        notes.append(f"{path}: {reason}; damaged files are replaced by others and counted")
    if images.count < _FEW_IMAGES and plan.chosen.start is None:
        notes.append(
            f"{images.count:,} images are few to learn from scratch: --from goes on from a "
            "released encoder"
        )
    if machine.gpus > 1:
        notes.append(
            f"of {machine.gpus} GPUs this command uses one; the config trains on all by "
            "tools/dist_train.sh"
        )
    if plan.seconds[0] > 3600 * hours:
        notes.append(
            f"a single epoch takes longer than {hours:g} hours: give more by --hours, or use a "
            "released encoder (msn-mm fit --checkpoint ...)"
        )
    return notes
