"""Centring, the targets' temperature, the frozen last layer, clipping: in real trainings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from msn_mm.engine.hooks.frozen_layer_hook import FrozenLayerHook
from msn_mm.engine.hooks.target_temperature_hook import TargetTemperatureHook
from msn_mm.engine.launch import build_runner, load_config
from msn_mm.engine.optim.clipping import clip_each_norm_
from msn_mm.engine.optim.group_optim_wrapper import GroupOptimWrapper
from msn_mm.errors import UserError
from tests.helpers import Watch, run, weights
from tests.test_resume import assert_same, content

CENTRE = "loss_module.centre.value"


def tiny(name: str = "dino", **options: Any) -> Config:
    """A digits config at tiny size: 64 images, batch 16, one block of width 24."""
    cfg = load_config(f"configs/{name}_digits.py")
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dim": 24,
            "model.backbone.depth": 1,
            "model.head.hidden_dim": 32,
            "model.head.bottleneck_dim": 16,
            "model.head.output_dim": 12,
            "train_dataloader.dataset.dataset.indices": 64,
            "global_batch_size": 16,
            "base_batch_size": 16,
            "train_cfg.max_epochs": 2,
            "train_cfg.val_interval": 1000,
            "visualizer.vis_backends": [dict(type="LocalVisBackend")],
        }
    )
    cfg.param_scheduler = [dict(type="ConstantLR", factor=1.0)]
    for hook in cfg.custom_hooks:
        if hook.type == "TargetTemperatureHook":
            hook.update(epochs=2, end=0.06)
    cfg.merge_from_dict(options)
    return cfg


def hook_of(cfg: Config, kind: str) -> Any:
    return next(hook for hook in cfg.custom_hooks if hook.type == kind)


@pytest.mark.parametrize("epochs", [0, 1, 2, 30])
def test_temperature_is_the_published_schedule(epochs):
    hook = TargetTemperatureHook(0.04, 0.07, epochs)
    want = np.concatenate([np.linspace(0.04, 0.07, epochs), np.full(40 - epochs, 0.07)])
    assert [hook.at(epoch) for epoch in range(40)] == pytest.approx(want.tolist())


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
def test_the_first_epoch_freezes_the_last_layer_only(by_epoch, tmp_path):
    """Neither weight decay nor moments: the layer's optimizer state begins in epoch 2.

    MMEngine's loop by iterations does not count epochs; the hooks do.
    """
    cfg = tiny(**{"train_cfg.max_epochs": 2, "optim_wrapper.optimizer.weight_decay": 0.3})
    if not by_epoch:
        cfg.train_cfg = dict(by_epoch=False, max_iters=8, val_interval=1000)
        cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1000, by_epoch=False)
    seen: list[Any] = []

    def look(runner, outputs):
        layer = runner.model.head.last_layer.weight
        state = runner.optim_wrapper.optimizer.state
        temperature = runner.model.loss_module.target_temperature
        seen.append((weights(runner), state.get(layer), temperature))

    runner = build_runner(cfg, work_dir=tmp_path)
    start = weights(runner)
    runner.register_hook(Watch(look))
    runner.train()
    name = "head.last_layer.weight"
    for state, moments, _ in seen[:4]:
        assert torch.equal(state[name], start[name]) and not moments
        assert torch.equal(state[f"target_{name}"], start[f"target_{name}"])
        assert not torch.equal(state["head.projector.0.weight"], start["head.projector.0.weight"])
    assert not torch.equal(seen[4][0][name], start[name])
    assert int(seen[-1][1]["step"]) == 4
    first, last = hook_of(cfg, "TargetTemperatureHook").start, seen[-1][2]
    assert [t for _, _, t in seen] == pytest.approx([first] * 4 + [last] * 4)
    assert last == hook_of(cfg, "TargetTemperatureHook").end != first
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks, "the hook is gone"


class Spoil(Hook):
    """Make the loss of one iteration infinite, and remember the state before it."""

    priority = "VERY_HIGH"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self.before: dict[str, torch.Tensor] = {}
        self.handle: Any = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.before = weights(runner)
            self.handle = runner.model.backbone.vit.blocks[0].register_forward_hook(
                lambda _, __, x: x * float("nan")
            )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.handle is not None:
            self.handle.remove()
            self.handle = None


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_a_skipped_step_moves_no_centre(name, tmp_path):
    cfg = tiny(name, **{"train_cfg.max_epochs": 1})
    states: list[dict[str, torch.Tensor]] = []
    runner = build_runner(cfg, work_dir=tmp_path)
    spoil = Spoil(2)
    runner.register_hook(spoil)
    runner.register_hook(Watch(lambda r, _: states.append(weights(r))))
    runner.train()
    centres = [key for key in states[0] if "centre" in key]
    assert len(centres) == {"dino": 1, "ibot": 2}[name]
    for key, value in spoil.before.items():
        assert torch.equal(states[2][key], value), key
    for key in centres:
        assert states[0][key].abs().sum() > 0
        assert not torch.equal(states[1][key], states[0][key])
        assert not torch.equal(states[3][key], states[2][key])


def test_a_batch_in_two_parts_is_the_whole_batch(tmp_path):
    """The centre moves once a step, by the mean over the parts."""
    whole, parts = [], []
    for accumulation, out in ((1, whole), (2, parts)):
        options = {"accumulation": accumulation, "train_cfg.max_epochs": 1}
        cfg = tiny(**options)
        # Adam would blow rounding noise of tiny gradients up to its step size.
        cfg.optim_wrapper.optimizer = dict(type="SGD", lr=3e-3, weight_decay=0.04)
        cfg.model.head.batch_norm = False
        run(cfg, tmp_path / str(accumulation), lambda r, _, out=out: out.append(weights(r)))
    assert len(parts) == 2 * len(whole)
    for key, value in whole[-1].items():
        torch.testing.assert_close(parts[-1][key], value, rtol=1e-4, atol=1e-6)
    assert torch.equal(parts[2][CENTRE], parts[1][CENTRE]), "no move between steps"


@pytest.mark.parametrize(("name", "stops"), [("dino", (3,)), ("ibot", (6,))])
def test_resumed_bitwise_in_the_frozen_epoch_and_behind_it(name, stops, tmp_path):
    options = {"default_hooks.checkpoint.every_iters": 1}
    cfg = tiny(name, **options)
    cfg.default_hooks.checkpoint.max_keep_iters = -1
    run(cfg, tmp_path / "whole")
    for stop in stops:
        out = tmp_path / f"from_{stop}"
        run(cfg, out, resume=tmp_path / f"whole/iter_{stop}.pth")
        assert_same(content(tmp_path / "whole/epoch_2.pth"), content(out / "epoch_2.pth"))
    moved = torch.load(tmp_path / "whole/epoch_2.pth", weights_only=True)["state_dict"]
    assert moved[CENTRE].abs().sum() > 0


def test_each_gradient_is_clipped_by_itself():
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2)])
    for number, parameter in enumerate(layers.parameters()):
        parameter.grad = torch.randn_like(parameter) * 10.0**-number
    before = [p.grad.clone() for p in layers.parameters()]
    total = clip_each_norm_(list(layers.parameters()), max_norm=0.5)
    assert total.item() == pytest.approx(torch.cat([g.flatten() for g in before]).norm().item())
    for parameter, gradient in zip(layers.parameters(), before, strict=True):
        want = gradient * min(1.0, 0.5 / (gradient.norm().item() + 1e-6))
        torch.testing.assert_close(parameter.grad, want)
    wrapper = GroupOptimWrapper(
        torch.optim.SGD(layers.parameters(), 0.1), clip_grad=dict(type="each", max_norm=0.25)
    )
    wrapper.step()
    assert max(p.grad.norm() for p in layers.parameters()) <= 0.2501


def test_training_without_the_centring_hook_is_refused(tmp_path):
    cfg = tiny()
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != "CentringHook"]
    with pytest.raises(UserError, match=r"DINO centres its targets.*add dict\(type='CentringHook'"):
        run(cfg, tmp_path)


def test_hooks_that_find_nothing_say_so(tmp_path):
    cfg = tiny()
    for kind, change, match in (
        ("FrozenLayerHook", {"module": "head.final"}, "names the module 'head.final'"),
        ("TargetTemperatureHook", {"name": "heat"}, "sets heat, which the loss of DINO"),
        ("TargetTemperatureHook", {"end": 0.1}, "sets target_temperature to 0.1, and the pred"),
        ("TargetTemperatureHook", {"start": 0.2}, "sets target_temperature to 0.2, and the pred"),
    ):
        changed = copy.deepcopy(cfg)
        hook_of(changed, kind).update(change)
        with pytest.raises(UserError, match=match):
            run(changed, tmp_path / kind)
    msn = load_config("configs/msn_digits.py")
    msn.custom_hooks.append(dict(type="CentringHook"))
    msn.train_dataloader.dataset.dataset.indices = 64
    with pytest.raises(UserError, match=r"needs a model with centres\(\); MSN has none"):
        run(msn, tmp_path / "msn")
    with pytest.raises(ValueError, match="must not be negative"):
        FrozenLayerHook(epochs=-1)
    with pytest.raises(ValueError, match="must be positive"):
        TargetTemperatureHook(start=0.0)
