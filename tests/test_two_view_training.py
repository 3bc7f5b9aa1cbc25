"""SimCLR and BYOL on real digits through the real runner, as their configs have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from msn_mm.engine.launch import build_runner, load_config
from tests import tiny_methods
from tests.helpers import assert_same, run, weights
from tests.tiny_methods import Poison, state

METHODS = ("simclr", "byol")
SMALL = {
    "model.backbone.layers": (1,),
    "model.backbone.base_channels": 8,
    "model.neck.hid_channels": 16,
}


def tiny(method: str, **options: Any) -> Any:
    """One stage of width 8."""
    return tiny_methods.tiny(method, SMALL, options)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_bitwise_where_the_uninterrupted_one_does(
    method: str, tmp_path: Path
) -> None:
    whole = run(tiny(method), tmp_path / "whole")
    resumed = run(tiny(method), tmp_path / "resumed", resume=tmp_path / "whole" / "epoch_1.pth")
    assert resumed.iter == whole.iter == 12
    end = state(whole)
    assert_same(end, state(resumed))
    names = end["model"]
    if method == "byol":
        # Each network keeps statistics of its own, and the moving average has moved.
        for part in ("bn1.running_mean", "conv1.weight"):
            assert not torch.equal(names[f"backbone.{part}"], names[f"momentum_backbone.{part}"])
    assert len(end["optimizer"]) == sum(p.requires_grad for p in whole.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_is_not_finite_changes_nothing(method: str, tmp_path: Path) -> None:
    runner = build_runner(tiny(method, **{"train_cfg.max_epochs": 2}), work_dir=tmp_path)
    poison = Poison(2, "backbone")
    runner.register_hook(poison)
    runner.train()
    assert_same(poison.before, poison.after)
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "the representations" in log
    assert not torch.equal(
        poison.after["model"]["backbone.conv1.weight"], weights(runner)["backbone.conv1.weight"]
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_monitor_reads_and_warns(method: str, tmp_path: Path) -> None:
    cfg = tiny(method, **{"train_cfg.max_epochs": 2})
    for hook in cfg.custom_hooks:
        if hook.type == "CollapseMonitorHook":
            hook.update(interval=4, window=2)
    runner = build_runner(cfg, work_dir=tmp_path)
    # Nearly one representation for all images.
    runner.model.backbone.register_forward_hook(lambda _, __, z: 1 + 1e-4 * z)
    runner.train()
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "Collapse monitor, constant representation" in log and "me_max" not in log
    assert runner.message_hub.get_scalar("train/rank_me").current() < 1.5
    (monitor,) = (h for h in runner.hooks if isinstance(h, CollapseMonitorHook))
    assert monitor.announced == {"constant representation"}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_short_training_beats_the_untrained_network(method: str, tmp_path: Path) -> None:
    # BYOL is behind the untrained network for a third of this length.
    epochs = {"simclr": 60, "byol": 120}[method]
    options = {"train_cfg.max_epochs": epochs, "train_cfg.val_interval": epochs}
    runner = build_runner(load_config(f"configs/{method}_digits.py", options), work_dir=tmp_path)
    before = runner.val_loop.run()
    runner.train()
    after = runner.message_hub.log_scalars
    for name, margin in {"lowshot/2_top1": 4, "lowshot/5_top1": 5, "knn/top1": 3}.items():
        assert after[f"val/{name}"].current() > before[name] + margin, name
