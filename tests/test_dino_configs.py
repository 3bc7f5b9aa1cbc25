"""DINO's and iBOT's configs: one step at tiny size, the published values at the real one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from msn_mm.engine.launch import load_config
from msn_mm.utils.dry_run import make_plan
from msn_mm.utils.vit_cost import ViTShape
from tests.helpers import run
from tests.test_configs import save_images

CONFIGS = [f"dino_{name}" for name in ("vits16", "vitb16", "vitb8", "digits")]
CONFIGS += [f"ibot_{name}" for name in ("vits16", "vitb16", "digits")]

# Released settings: parameters of the trunk in millions and tokens of a global view; epochs,
# batch, learning rate for 256 images, its last value, clipping; first temperature of the
# targets, epochs of its warm-up; frozen epochs; outputs and whether their lengths are fixed.
RECIPES: dict[str, tuple[Any, ...]] = {
    "dino_vits16": (21.67, 197, 800, 1024, 5e-4, 1e-5, None, 0.04, 30, 1, 65536, False),
    "dino_vitb16": (85.80, 197, 400, 1024, 7.5e-4, 2e-6, 0.3, 0.04, 50, 3, 65536, True),
    "dino_vitb8": (85.81, 785, 300, 1056, 5e-4, 2e-6, 3.0, 0.03, 50, 3, 65536, True),
    "ibot_vits16": (21.67, 197, 800, 1024, 5e-4, 1e-6, 3.0, 0.04, 30, 1, 8192, False),
    "ibot_vitb16": (85.80, 197, 400, 1024, 7.5e-4, 2e-6, 0.3, 0.04, 50, 3, 8192, True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_takes_a_step(name, tmp_path):
    options = {"model.backbone.embed_dim": 24, "model.backbone.depth": 1}
    options |= {"model.backbone.num_heads": 3, "model.head.hidden_dim": 16}
    options |= {"global_batch_size": 2, "base_batch_size": 2, "train_dataloader.num_workers": 0}
    options |= {"train_dataloader.persistent_workers": False, "train_dataloader.pin_memory": False}
    options |= {"model.head.output_dim": 24}
    if "digits" not in name:
        root = save_images(tmp_path / "images")
        options["train_dataloader.dataset.dataset.data_root"] = str(root)
        options["train_dataloader.dataset.transform.views.local.num"] = 2
    cfg = load_config(f"configs/{name}.py", options)
    cfg.train_cfg = dict(by_epoch=False, max_iters=1, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1, by_epoch=False)
    losses: list[float] = []
    runner = run(cfg, tmp_path / "out", lambda _, outputs: losses.append(outputs["loss"].item()))
    assert runner.iter == 1 and math.isfinite(losses[0]) and losses[0] > 0
    assert all(centre.value.any() for centre in runner.model.centres())


def hooks(cfg: Any, kind: str) -> list[Any]:
    return [hook for hook in cfg.custom_hooks if hook.type == kind]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_the_published_one(name):
    millions, tokens, epochs, batch, lr, last_lr, clip, start, warm_up, frozen, outputs, norm = (
        RECIPES[name]
    )
    cfg = load_config(f"configs/{name}.py")
    plan = make_plan(cfg, processes=8)
    width = 384 if millions < 50 else 768
    head = (width + 1) * 2048 + 2049 * 2048 + 2049 * 256 + outputs * (256 + (not norm))
    token = width if name.startswith("ibot") else 0
    assert (plan.trained - head - token) / 1e6 == pytest.approx(millions, abs=0.006)
    assert plan.trained - plan.target == token
    assert [(v.name, v.num, v.size, v.trained, v.target) for v in plan.views] == [
        ("global_1", 1, 224, True, True),
        ("global_2", 1, 224, True, True),
        ("local", 10, 96, True, False),
    ]
    assert plan.views[0].tokens == tokens
    assert cfg.train_cfg.max_epochs == epochs and plan.batch.global_batch == batch
    ends = {e.name: e for e in plan.schedules}
    rate = ends["learning rate"]
    assert rate.first < 1e-8 and rate.last == pytest.approx(last_lr, rel=0.05)
    assert rate.highest[0] == pytest.approx(lr * batch / 256, rel=1e-3)
    assert rate.highest[1] == pytest.approx(10, abs=0.3)
    decay = ends["weight decay"]
    assert (decay.first, decay.last) == (pytest.approx(0.04), pytest.approx(0.4, rel=1e-4))
    (ema,) = hooks(cfg, "EMAHook")
    assert (ema.momentum, ema.end_momentum, ema.schedule) == (0.996, 1.0, "cosine")
    assert cfg.optim_wrapper.clip_grad == (clip and dict(type="each", max_norm=clip))
    temperatures = hooks(cfg, "TargetTemperatureHook")
    assert len(temperatures) == (2 if name.startswith("ibot") else 1)
    for hook in temperatures:
        assert (hook.start, hook.end, hook.epochs) == (start, 0.07, warm_up)
        told = ends[hook.get("name", "target_temperature").replace("_", " ")]
        assert (told.first, told.last) == (start, 0.07)
    (frozen_layer,) = hooks(cfg, "FrozenLayerHook")
    assert (frozen_layer.module, frozen_layer.epochs) == ("head.last_layer", frozen)
    assert cfg.model.head.norm_last_layer == norm
    assert cfg.model.loss.temperature == 0.1 and cfg.model.loss.centre_momentum == 0.9
    assert cfg.model.backbone.drop_path_rate == 0.1
    if token:
        assert cfg.model.mask == dict(ratio=0.3, variation=0.2, probability=0.5)
        assert (cfg.model.loss.cls_weight, cfg.model.loss.patch_weight) == (1.0, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_views_are_the_published_ones(name):
    views = load_config(f"configs/{name}.py").train_dataloader.dataset.transform.views
    border = 0.32 if name == "ibot_vitb16" else 0.25
    found = {}
    for name, view in views.items():
        assert view.interpolation == "bicubic"
        found[name] = (tuple(view.scale), {op.type: op.get("p") for op in view.ops})
    shared = {"HorizontalFlip": 0.5, "ColorJitter": 0.8, "Grayscale": 0.2}
    assert found == {
        "global_1": ((border, 1.0), {**shared, "GaussianBlur": 1.0}),
        "global_2": ((border, 1.0), {**shared, "GaussianBlur": 0.1, "Solarize": 0.2}),
        "local": ((0.05, border), {**shared, "GaussianBlur": 0.5}),
    }


def test_predicted_cost_counts_the_patches_of_ibot_s_head():
    cfg = load_config("configs/ibot_vits16.py")
    plan = make_plan(cfg, processes=8)
    cfg.model.type, cfg.model.loss.type = "DINO", "DINOLoss"
    for key in ("patch_target_temperature", "patch_centre_momentum", "cls_weight", "patch_weight"):
        cfg.model.loss.pop(key)
    cfg.model.pop("mask")
    cfg.custom_hooks = []
    dino = make_plan(cfg, processes=8)
    weights = 384 * 2048 + 2048 * 2048 + 2048 * 256 + 8192 * 257
    # Of 196 patches the target's head reads all, the trained one 0.15 and back.
    extra = 2 * 2 * weights * 196 * (1 + 3 * 0.15)
    # And of two views of 197 tokens the last block is whole, once and there and back.
    shape = ViTShape(width=384, hidden=1536, depth=12, patch_numbers=768)
    extra += 2 * 4 * (shape.block_flops(197) - shape.block_flops(197, cls_only=True))
    assert plan.flops - dino.flops == pytest.approx(extra, rel=1e-3)
    assert plan.memory.activations > dino.memory.activations


def test_digits_have_the_budget_of_msn_s():
    msn = load_config("configs/msn_digits.py")
    for name in ("dino_digits", "ibot_digits"):
        cfg = load_config(f"configs/{name}.py")
        assert cfg.train_cfg == msn.train_cfg and cfg.global_batch_size == msn.global_batch_size
        assert cfg.val_evaluator == msn.val_evaluator
        views = [c.train_dataloader.dataset.transform.views for c in (cfg, msn)]
        ours, theirs = (
            sorted(np.repeat([v.size for v in w.values()], [v.get("num", 1) for v in w.values()]))
            for w in views
        )
        assert ours == theirs
