"""Real trainings that end early: settled, collapsed, resumed, on two ranks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine.hooks.settled_stop_hook import SettledStopHook, TrainingCollapsed
from msn_mm.engine.launch import build_runner, train
from msn_mm.errors import UserError
from tests.helpers import run, tiny_digits, weights
from tests.test_fsdp import on_two

WITHOUT_VAL = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))


def config(epochs: int = 12, **stop: Any) -> Config:
    """Without labels; everything counts as settled once there are enough measurements."""
    cfg = tiny_digits(**WITHOUT_VAL, **{"train_cfg.max_epochs": epochs})
    cfg.default_hooks.checkpoint = dict(interval=1, max_keep_ckpts=-1)
    cfg.custom_hooks = [
        dict(type="EMAHook", momentum=0.9),
        dict(type="CollapseMonitorHook", interval=2, window=2),
        dict(type="SettledStopHook", **{"begin": 0.5, "tolerance": 100.0, **stop}),
    ]
    return cfg


class Rates(Hook):
    """Learning rates that the optimizer steps with, and that the schedule has behind it."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.used: list[float] = []
        self.left: list[float] = []

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.used.append(runner.optim_wrapper.param_groups[0]["lr"])

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.left.append(runner.optim_wrapper.param_groups[0]["lr"])


def trained(cfg: Config, work_dir: Path, **launch: Any) -> tuple[Runner, Rates]:
    runner = build_runner(cfg, work_dir=work_dir, **launch)
    rates = Rates()
    runner.register_hook(rates)
    train(runner)
    return runner, rates


def stop_hook(runner: Runner) -> SettledStopHook:
    return next(hook for hook in runner.hooks if isinstance(hook, SettledStopHook))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    runner, rates = trained(config(cool_down=0.25), tmp_path_factory.mktemp("ended"))
    runner.rates = rates
    return runner


def test_a_settled_training_cools_down_and_ends_whole(ended: Runner, tmp_path: Path) -> None:
    # of which nothing is taken for settled that moves at all
    whole, plain = trained(config(tolerance=1e-6), tmp_path)
    assert whole.epoch == 12 and stop_hook(whole).reason is None
    runner, rates = ended, ended.rates
    # eight measurements are needed; a quarter of eight epochs is two
    assert runner.epoch == 10 and len(rates.used) == 40
    reason = stop_hook(runner).reason
    assert reason is not None
    assert reason.startswith("after epoch 8 of 12, rank_me, loss and mean_entropy have settled")
    assert rates.used[:32] == plain.used[:32]
    factors = [used / full for used, full in zip(rates.used[32:], plain.used[32:40], strict=True)]
    assert factors == pytest.approx([1 - k / 8 for k in range(8)])
    # the schedule itself goes on undisturbed, and so does what is saved of it
    assert rates.left == plain.left[:40]
    saved = torch.load(Path(runner.work_dir, "epoch_10.pth"), weights_only=True)
    assert saved["meta"]["epoch"] == 10
    assert saved["optimizer"]["param_groups"][0]["lr"] == plain.left[39]


@pytest.mark.parametrize("cut", [7, 9])
def test_a_resumed_run_ends_where_the_first_would_have(
    ended: Runner, tmp_path: Path, cut: int
) -> None:
    """From before the decision, and from amid the cool-down."""
    shutil.copy(Path(ended.work_dir, f"epoch_{cut}.pth"), tmp_path)
    second, rates = trained(config(cool_down=0.25), tmp_path, resume=True)
    assert second.epoch == 10 and len(rates.used) == 4 * (10 - cut)
    assert stop_hook(second).reason == stop_hook(ended).reason
    one, other = weights(ended), weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_ended_run_has_nothing_to_do(ended: Runner, tmp_path: Path) -> None:
    shutil.copy(Path(ended.work_dir, "epoch_10.pth"), tmp_path)
    again, rates = trained(config(cool_down=0.25), tmp_path, resume=True)
    assert again.epoch == 10 and not rates.used


def test_a_collapse_ends_the_training_in_one_line(tmp_path: Path) -> None:
    # as in the collapse monitor's own test: nothing keeps the prototypes in use
    cfg = config(40, begin=0.1, tolerance=1e-6, collapse_steps=10)
    cfg.model.loss.update(me_max_weight=0.0, sinkhorn_iterations=0)
    cfg.optim_wrapper.optimizer.lr = 0.3
    cfg.model.backbone.depth = 1
    runner = build_runner(cfg, work_dir=tmp_path)
    with pytest.raises(TrainingCollapsed, match=r"collapse, constant representation: .*--lr") as e:
        train(runner)
    assert "\n" not in str(e.value) and "0.15 in place of 0.3" in str(e.value)
    assert runner.epoch < 39


def test_accuracy_on_labels_decides_where_there_are_some(tmp_path: Path) -> None:
    cfg = labelled(tmp_path, patience=2, begin=0.0, cool_down=0.0)
    runner, _ = trained(cfg, tmp_path / "run")
    reason = stop_hook(runner).reason
    assert runner.epoch < 20 and reason is not None
    assert "2 measurements on the labelled images brought no gain" in reason
    hub = runner.message_hub
    accuracy = hub.get_scalar("val/few_labels/top1").data[0]
    # measured once an epoch, the last one's included
    assert len(accuracy) == runner.epoch and 0 <= min(accuracy) <= max(accuracy) <= 100


def test_a_resumed_run_does_not_forget_that_there_are_labels(tmp_path: Path) -> None:
    """From amid an epoch, before this process has validated."""

    def cfg() -> Config:
        cfg = labelled(tmp_path, patience=1000, begin=0.0, tolerance=100.0, cool_down=0.0)
        cfg.train_cfg.max_epochs = 14
        cfg.default_hooks.checkpoint = dict(interval=100, every_iters=46, max_keep_iters=-1)
        return cfg

    whole, _ = trained(cfg(), tmp_path / "whole")
    assert whole.epoch == 14 and stop_hook(whole).reason is None
    (tmp_path / "resumed").mkdir()
    shutil.copy(Path(whole.work_dir, "iter_46.pth"), tmp_path / "resumed")
    resumed, _ = trained(cfg(), tmp_path / "resumed", resume=True)
    assert resumed.epoch == 14 and stop_hook(resumed).reason is None


def labelled(folder: Path, **stop: Any) -> Config:
    """A training whose weights hardly move, so that its accuracy has settled."""
    from PIL import Image

    from msn_mm.datasets import Digits

    digits = Digits(split="test")
    for i in range(60):
        info = digits.get_data_info(i)
        file = folder / "labels" / str(info["gt_label"]) / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(info["img"][..., 0]).save(file)
    cfg = tiny_digits(**{"train_cfg.max_epochs": 20, "train_cfg.val_interval": 1})
    cfg.optim_wrapper.optimizer.lr = 1e-8
    cfg.custom_hooks = [
        dict(type="EMAHook", momentum=0.9),
        dict(type="CollapseMonitorHook", interval=2, window=2),
        dict(type="SettledStopHook", **stop),
    ]
    cfg.val_dataloader.dataset = dict(
        type="UserLabels",
        labels=str(folder / "labels"),
        transform=dict(type="EvalCrop", resize=32, crop=32, channels=1),
    )
    cfg.val_evaluator = dict(type="FewLabelsMetric", repeats=2)
    return cfg


def test_the_metric_holds_each_image_out() -> None:
    from msn_mm.evaluation.features import Features
    from msn_mm.evaluation.few_labels_metric import FewLabelsMetric

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 6)
    support = np.ones(18, dtype=bool)
    told = np.eye(3)[labels] + 0.05 * rng.normal(size=(18, 3))
    metric = FewLabelsMetric(repeats=2)
    clear = Features(np.hstack([told, rng.normal(size=(18, 5)) / 20]), labels, support)
    assert metric.measure(clear) == {"few_labels/top1": 100.0, "few_labels/error": 0.0}
    # what an image says of itself alone is of no use to the others
    own = Features(np.eye(18) + 0.01 * rng.normal(size=(18, 18)), labels, support)
    assert metric.measure(own)["few_labels/top1"] < 60
    assert len(metric.right) == 18 and set(metric.right) <= {0.0, 0.5, 1.0}
    single = Features(np.eye(3), np.arange(3), np.ones(3, dtype=bool))
    assert metric.measure(single) == {}


def ended_on_two(work_dir: str) -> dict[str, Any]:
    """Train on this rank of two; where it ended, and why."""
    cfg = config(cool_down=0.25)
    # What the second process alone measures must not decide for it.
    cfg.custom_hooks[2].tolerance = 100.0 if os.environ["RANK"] == "0" else 1e-9
    runner, rates = trained(cfg, Path(work_dir), launcher="pytorch")
    reason = stop_hook(runner).reason
    return {"place": [runner.epoch, runner.iter], "reason": reason, "rates": rates.used}


@pytest.mark.slow
def test_two_ranks_end_at_the_same_step(tmp_path: Path) -> None:
    (first,), (second,) = on_two(ended_on_two, (str(tmp_path / "run"),), folder=tmp_path)
    assert first["place"] == second["place"] and first["place"][0] == 10
    assert first["rates"] == second["rates"] and first["reason"]


def test_impossible_settings(tmp_path: Path) -> None:
    for wrong in (dict(interval=0), dict(patience=0), dict(begin=2.0), dict(cool_down=-1.0)):
        with pytest.raises(ValueError, match="must"):
            SettledStopHook(**wrong)
    cfg = config()
    cfg.custom_hooks = [cfg.custom_hooks[0], cfg.custom_hooks[2]]
    with pytest.raises(UserError, match="needs CollapseMonitorHook"):
        run(cfg, tmp_path)
