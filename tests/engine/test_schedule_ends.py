"""Where schedules begin and end."""

from __future__ import annotations

import math

import pytest
from mmengine.config import Config

from msn_mm.engine.schedule_ends import check_schedules, schedule_ends
from msn_mm.errors import UserError


def config(**changes: object) -> Config:
    return Config(
        dict(
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.5, weight_decay=0.04)),
            train_cfg=dict(by_epoch=True, max_epochs=100),
            param_scheduler=[
                dict(type="LinearLR", start_factor=0.2, end=10, convert_to_iter_based=True),
                dict(type="CosineAnnealingLR", begin=10, eta_min=0.1, convert_to_iter_based=True),
            ],
            custom_hooks=[dict(type="EMAHook", momentum=0.9, end_momentum=0.99)],
        )
        | changes
    )


def test_the_ends_are_those_of_the_formula() -> None:
    rate, decay, momentum = schedule_ends(config())
    assert rate.first == pytest.approx(0.1)
    assert rate.highest[0] == pytest.approx(0.5)
    assert rate.highest[1] == pytest.approx(10, abs=0.5)
    # Four steps an epoch: the last is one of 360 short of the cosine's end.
    assert rate.last == pytest.approx(0.1 + 0.2 * (1 + math.cos(math.pi * 359 / 360)), rel=1e-6)
    assert (decay.first, decay.last) == (0.04, 0.04)
    assert (momentum.first, momentum.last) == (0.9, 0.99)
    assert str(rate) == "0.1 at the start, 0.5 at epoch 10, 0.1 at the end"


def test_a_schedule_behind_the_end_is_told() -> None:
    with pytest.raises(UserError, match=r"param_scheduler.1 \(CosineAnnealingLR\) begins at epoch"):
        check_schedules(config(train_cfg=dict(by_epoch=True, max_epochs=10)))
    check_schedules(config(train_cfg=dict(by_epoch=True, max_epochs=11)))


def test_what_is_suggested_helps() -> None:
    """Nothing is suggested that is refused again, for a training of one epoch neither."""
    for by, unit in ((True, "epoch"), (False, "iter")):
        for begin, length in ((10, 10), (10, 2), (10, 1), (1, 1)):
            cfg = config(train_cfg={"by_epoch": by, f"max_{unit}s": length * (1 if by else 4)})
            if not by:
                cfg.accumulation = 4
            for schedule in cfg.param_scheduler:
                schedule.pop("convert_to_iter_based")
                schedule.by_epoch = by
            cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = begin
            with pytest.raises(UserError, match=f"ends after {length}: ") as told:
                check_schedules(cfg)
            words = str(told.value).partition("--cfg-options ")[2].split()
            assert words
            cfg.merge_from_dict({key: int(value) for key, value in (w.split("=") for w in words)})
            check_schedules(cfg)
            above = int(str(told.value).partition(" above ")[2].partition(",")[0])
            assert above == begin * (1 if by else 4)
