"""The division of the global batch and the learning rate that follows."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config

from msn_mm.engine.batch import apply_batch, resolve_batch
from msn_mm.errors import UserError


def config(**changes: Any) -> Config:
    settings: dict[str, Any] = dict(
        global_batch_size=1024,
        accumulation=1,
        base_batch_size=1024,
        train_dataloader=dict(batch_size=None),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.001)),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.2),
            dict(type="CosineAnnealingLR", eta_min=1e-6),
            dict(type="StretchedCosine", param_name="lr", eta_min=1e-6),
            dict(type="CosineAnnealingParamScheduler", param_name="weight_decay", eta_min=0.4),
        ],
    )
    return Config(settings | changes)


@pytest.mark.parametrize("world", [1, 4, 8])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_global_batch_does_not_depend_on_the_processes(world: int, accumulation: int) -> None:
    cfg = config(accumulation=accumulation)
    plan = resolve_batch(cfg, world)
    assert plan.process_batch * world * accumulation == 1024 == plan.global_batch
    apply_batch(cfg, plan)
    assert cfg.train_dataloader.batch_size == 1024 // (world * accumulation)
    assert cfg.optim_wrapper.accumulative_counts == accumulation
    assert cfg.optim_wrapper.optimizer.lr == 0.001


def test_the_learning_rate_follows_what_is_summed() -> None:
    cfg = config(global_batch_size=256, accumulation=4)
    apply_batch(cfg, resolve_batch(cfg, 2))
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.00025)
    linear, cosine, stretched, decay = cfg.param_scheduler
    assert linear.start_factor == 0.2
    assert cosine.eta_min == pytest.approx(2.5e-7)
    assert stretched.eta_min == pytest.approx(2.5e-7)
    assert decay.eta_min == 0.4


def test_every_learning_rate_of_a_schedule_follows() -> None:
    schedules = [
        dict(type="OneCycleLR", eta_max=0.004),
        dict(type="ReduceOnPlateauLR", min_value=[1e-5, 2e-5]),
        dict(type="ReduceOnPlateauMomentum", min_value=0.5),
    ]
    cfg = config(global_batch_size=512, param_scheduler=schedules)
    apply_batch(cfg, resolve_batch(cfg, 1))
    cycle, plateau, momentum = cfg.param_scheduler
    assert cycle.eta_max == 0.002 and momentum.min_value == 0.5
    assert plateau.min_value == [5e-6, 1e-5]


def test_the_sampler_is_known_by_its_name_with_a_scope() -> None:
    loader = dict(batch_size=None, sampler=dict(type="msn_mm.KeyedSampler"))
    cfg = config(accumulation=2, train_dataloader=loader)
    apply_batch(cfg, resolve_batch(cfg, 4))
    assert cfg.train_dataloader.sampler.multiple == 256


def test_a_resolved_config_stays_as_it_is() -> None:
    cfg = config(global_batch_size=256)
    apply_batch(cfg, resolve_batch(cfg, 2))
    once = cfg.pretty_text
    apply_batch(cfg, resolve_batch(cfg, 2))
    assert cfg.pretty_text == once


def test_accumulation_is_told_with_its_cost() -> None:
    (warning,) = resolve_batch(config(accumulation=4), 2).warnings()
    assert "batch norm, Sinkhorn and the mean prediction see only the 256 images" in warning
    assert "--micro-batch auto" in warning
    assert resolve_batch(config(), 2).warnings() == []


@pytest.mark.parametrize(
    ("changes", "world", "words"),
    [
        ({"global_batch_size": 1000}, 3, "nearest that does is 999"),
        ({"global_batch_size": 1003}, 2, "nearest that does is 1004"),
        ({"global_batch_size": 100, "accumulation": 3}, 2, "2 processes x accumulation 3"),
        ({"global_batch_size": 8}, 8, "set global_batch_size to 16 or more"),
        ({"global_batch_size": 1}, 1, "leaves 1 image a process"),
        ({"global_batch_size": 0}, 1, "positive whole number"),
        ({"global_batch_size": 2.5}, 1, "positive whole number"),
        ({"accumulation": 0}, 1, "accumulation must be"),
        ({"global_batch_size": None}, 1, "train_dataloader.batch_size must be"),
    ],
)
def test_a_batch_that_cannot_be_is_told(changes: dict[str, Any], world: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve_batch(config(**changes), world)


def test_a_stated_process_batch_is_taken_without_a_global_one() -> None:
    cfg = config(global_batch_size=None, train_dataloader=dict(batch_size=16))
    plan = resolve_batch(cfg, 4)
    assert (plan.process_batch, plan.global_batch, plan.lr_scale) == (16, 64, 64 / 1024)
