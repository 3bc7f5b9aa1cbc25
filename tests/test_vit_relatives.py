"""MAE and MoCo v3 on real digits through the real runner, and their configs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.engine.batch import resolve_batch
from msn_mm.engine.launch import build_runner, load_config
from msn_mm.utils.dry_run import make_plan
from tests import tiny_methods
from tests.helpers import assert_same, run, weights
from tests.test_configs import save_images
from tests.tiny_methods import Poison, state

METHODS = ("mae", "mocov3")
SMALL = {
    "mae": {"model.decoder.decoder_embed_dim": 16, "model.decoder.decoder_depth": 1},
    "mocov3": {"model.neck.hid_channels": 16, "model.head.predictor.hid_channels": 16},
}


def tiny(method: str, **options: Any) -> Any:
    """Two blocks of width 24."""
    size = {"model.backbone.embed_dim": 24, "model.backbone.depth": 2, **SMALL[method]}
    return tiny_methods.tiny(method, size, options)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumes_bitwise_and_keeps_what_is_fixed(method: str, tmp_path: Path) -> None:
    """Within an epoch, with two workers where the whole run had none."""
    options = {
        "default_hooks.checkpoint.every_iters": 1,
        "default_hooks.checkpoint.max_keep_iters": -1,
        "accumulation": 2,
    }
    whole = build_runner(tiny(method, **options), work_dir=tmp_path / "whole")
    start = weights(whole)
    whole.train()
    cfg = tiny(method, **options, **{"train_dataloader.num_workers": 2})
    resumed = run(cfg, tmp_path / "resumed", resume=tmp_path / "whole" / "iter_10.pth")
    assert resumed.iter == whole.iter == 24
    end = state(whole)
    assert_same(end, state(resumed))
    fixed = [n for n, p in whole.model.named_parameters() if not p.requires_grad]
    fixed = [n for n in fixed if not n.startswith("momentum_")]
    assert "backbone.vit.pos_embed" in fixed
    for name, value in end["model"].items():
        is_fixed = name in fixed or name.removeprefix("momentum_") in fixed
        assert torch.equal(value, start[name]) == is_fixed, name
    assert len(end["optimizer"]) == sum(p.requires_grad for p in whole.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_is_not_finite_changes_nothing(method: str, tmp_path: Path) -> None:
    runner = build_runner(tiny(method, **{"train_cfg.max_epochs": 2}), work_dir=tmp_path)
    poison = Poison(2, "backbone.vit.norm")
    runner.register_hook(poison)
    runner.train()
    assert_same(poison.before, poison.after)
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "representations" in log
    name = "backbone.vit.cls_token"
    assert not torch.equal(poison.after["model"][name], weights(runner)[name])


# name: (encoder's parameters in millions, decoder's or heads' as their sizes say, epochs, tokens)
PUBLISHED = {
    "mae_vitb16.py": (85.80, 768, 1600, 50),
    "mae_vitl16.py": (303.30, 1024, 1600, 50),
    "mae_vith14.py": (630.76, 1280, 1600, 65),
    "mocov3_vitb16.py": (85.80, 768, 300, 197),
}


def mae_decoder(width: int, patch: int, patches: int) -> int:
    """Trained parameters of eight blocks of width 512, counted by hand; positions are fixed."""
    block = 4 * 512 * 512 + 4 * 512 + 2 * 4 * 512 * 512 + 5 * 512 + 4 * 512
    return (width + 1) * 512 + 512 + 8 * block + 2 * 512 + 513 * 3 * patch**2


def mocov3_heads(width: int) -> int:
    """A projector of three layers without biases, a predictor of two; their last norm is bare."""
    return (width + 4096 + 256) * 4096 + 2 * 2 * 4096 + (256 + 256) * 4096 + 2 * 4096


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes(name: str) -> None:
    millions, width, epochs, tokens = PUBLISHED[name]
    cfg = load_config(f"configs/{name}")
    plan = make_plan(cfg, processes=8)
    patch = cfg.model.backbone.name.split("patch")[1].split("_")[0]
    patches = (224 // int(patch)) ** 2
    positions = (patches + 1) * width
    is_mae = name.startswith("mae")
    if is_mae:
        rest = mae_decoder(width, int(patch), patches) - positions
    else:
        rest = mocov3_heads(width) - positions - (3 * 16 * 16 + 1) * width
    assert (plan.trained - rest) / 1e6 == pytest.approx(millions, abs=0.006)
    assert {view.tokens for view in plan.views} == {tokens}
    assert cfg.train_cfg.max_epochs == epochs
    for processes in (1, 8, 64):
        batch = resolve_batch(cfg, processes)
        assert (batch.global_batch, batch.lr_scale) == (4096, 1)
    ends = {e.name: e for e in plan.schedules}
    rate = ends["learning rate"]
    assert rate.first < 1e-6 and rate.last < 1e-7
    assert rate.highest == (pytest.approx(1.5e-4 * 4096 / 256), pytest.approx(40, abs=0.5))
    optimizer = cfg.optim_wrapper.optimizer
    views = cfg.train_dataloader.dataset.transform.views
    if is_mae:
        assert (optimizer.weight_decay, tuple(optimizer.betas)) == (0.05, (0.9, 0.95))
        assert "target momentum" not in ends
        (view,) = views.values()
        assert (view.size, tuple(view.scale), view.interpolation) == (224, (0.2, 1.0), "bicubic")
        assert [op.type for op in view.ops] == ["HorizontalFlip"]
    else:
        assert (optimizer.weight_decay, tuple(optimizer.betas)) == (0.1, (0.9, 0.999))
        assert (ends["target momentum"].first, ends["target momentum"].last) == (0.99, 1)
        assert cfg.custom_hooks[0].schedule == "cosine"
        assert cfg.model.head.loss.loss_weight == 2 * cfg.model.head.temperature == 0.4
        chances = [{op.type: op.p for op in view.ops} for view in views.values()]
        assert [(c["GaussianBlur"], c.get("Solarize", 0)) for c in chances] == [(1, 0), (0.1, 0.2)]
        assert all(tuple(view.scale) == (0.08, 1.0) for view in views.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_take_a_step(name: str, tmp_path: Path) -> None:
    """Only width, depth, batch and the number of steps differ from the real thing."""
    method = name.partition("_")[0]
    root = str(save_images(tmp_path / "images"))
    cfg = load_config(f"configs/{name}", {"train_dataloader.dataset.dataset.data_root": root})
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dim": 24,
            "model.backbone.depth": 1,
            "model.backbone.num_heads": 3,
            "global_batch_size": 2,
            "base_batch_size": 2,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "train_dataloader.pin_memory": False,
            **SMALL[method],
        }
    )
    cfg.train_cfg = dict(by_epoch=False, max_iters=1, val_interval=2)
    cfg.param_scheduler = []
    losses = []
    run(cfg, tmp_path / "out", lambda _, outputs: losses.append(outputs["loss"].item()))
    assert math.isfinite(losses[0]) and losses[0] > 0


def test_the_predicted_cost_counts_the_decoder() -> None:
    """B/16: 16.9 GFLOPs of 49 tokens and CLS would be 4.3; the decoder's 197 tokens cost more."""
    plan = make_plan(load_config("configs/mae_vitb16.py"), processes=8)
    encoder = 2 * 196 * 768 * 768 + 12 * (24 * 50 * 768**2 + 4 * 50**2 * 768)
    decoder = 2 * 196 * 768 * 512 + 8 * (24 * 197 * 512**2 + 4 * 197**2 * 512)
    patches = 2 * 196 * 768 * 768  # whose pixels need no gradient
    assert plan.flops == 3 * encoder - patches + 3 * decoder
    assert plan.memory is not None
    bare = make_plan(load_config("configs/mae_vitb16.py", {"model.decoder.decoder_depth": 1}), 8)
    assert bare.memory is not None
    saved = 7 * 512 * 197 * (2 * 512 * 4 + (6 * 512 + 2 * 2048) * 4)
    assert plan.memory.activations - bare.memory.activations == saved


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_short_training_beats_the_untrained_network(method: str, tmp_path: Path) -> None:
    options = {"train_cfg.max_epochs": 25, "train_cfg.val_interval": 25}
    runner = build_runner(load_config(f"configs/{method}_digits.py", options), work_dir=tmp_path)
    before = runner.val_loop.run()
    runner.train()
    after = {
        name.removeprefix("val/"): scalars.current()
        for name, scalars in runner.message_hub.log_scalars.items()
        if name.startswith("val/")
    }
    for name in ("lowshot/1_top1", "lowshot/5_top1", "knn/top1"):
        assert after[name] > before[name] + 5, (name, before[name], after[name])
