"""The configs of SimCLR, BYOL and the supervised baselines: values, and a step of each."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from msn_mm.engine.batch import resolve_batch
from msn_mm.engine.launch import load_config
from msn_mm.engine.schedule_ends import schedule_ends
from msn_mm.evaluation.data import part_images
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from tests.helpers import run
from tests.test_configs import labelled_tree

# name: backbone parameters (torchvision's counts less the classifier; the wide ResNet-200 has
# the 250 million that arXiv 2006.07733, table 1, gives), epochs, batch, rate, decay.
PAPER = {
    "simclr_rn50": (23_508_032, 1000, 4096, 0.3 * 16, 1e-6),
    "simclr_rn101": (42_500_160, 1000, 4096, 0.3 * 16, 1e-6),
    "byol_rn50": (23_508_032, 1000, 4096, 0.2 * 16, 1.5e-6),
    "byol_rn200w2": (250e6, 1000, 4096, 0.2 * 16, 1.5e-6),
    "supervised_rn50": (23_508_032, 90, 256, 0.1, 1e-4),
    "supervised_vits16": (21_665_664, 300, 1024, 1e-3, 0.05),
    "supervised_vitb16": (85_798_656, 300, 1024, 1e-3, 0.05),
}
DIGITS = ("simclr_digits", "byol_digits", "supervised_digits")
# They differ from these in depth and width alone.
LARGER = {"simclr_rn101", "byol_rn200w2", "supervised_vitb16"}


def build(cfg: Any) -> nn.Module:
    with torch.device("meta"):
        return MODELS.build(copy.deepcopy(cfg.model))


def views(cfg: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Settings of each operation of each view, and how the view is cut."""
    found = {}
    for name, view in cfg.train_dataloader.dataset.transform.views.items():
        found[name] = {op["type"]: {k: v for k, v in op.items() if k != "type"} for op in view.ops}
        found[name]["crop"] = {k: v for k, v in view.items() if k != "ops"}
    return found


@pytest.mark.parametrize("name", PAPER)
def test_published_values(name: str) -> None:
    size, epochs, batch, rate, decay = PAPER[name]
    cfg = load_config(name)
    model = build(cfg)
    count = sum(p.numel() for p in model.backbone.parameters())
    assert count == size if isinstance(size, int) else abs(count / size - 1) < 0.01
    assert cfg.train_cfg.max_epochs == epochs
    for processes in (1, 8):
        plan = resolve_batch(cfg, processes)
        assert (plan.global_batch, plan.lr_scale) == (batch, 1)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate)
    assert cfg.optim_wrapper.optimizer.weight_decay == decay
    ends = {e.name: e for e in schedule_ends(cfg)}
    assert ends["learning rate"].highest[0] == pytest.approx(rate)
    # Frozen tools find the labelled data in the config itself.
    assert cfg.test_dataloader.dataset.type == "LabelledImages"


@pytest.mark.parametrize("name", ["simclr_rn50", "byol_rn50"])
def test_lars_warms_up_for_ten_epochs_and_spares_vectors(name: str) -> None:
    cfg = load_config(name)
    ends = {e.name: e for e in schedule_ends(cfg)}
    rate = ends["learning rate"]
    assert rate.highest[1] == pytest.approx(10, abs=0.3)
    assert rate.first < 1e-3 * rate.highest[0] and rate.last < 1e-5
    settings = copy.deepcopy(cfg.optim_wrapper)
    make = OPTIM_WRAPPER_CONSTRUCTORS.get(settings.pop("constructor"))(settings)
    decayed, plain = make(build(cfg)).optimizer.param_groups
    assert all(p.ndim > 1 for p in decayed["params"]) and not decayed.get("lars_exclude")
    assert all(p.ndim == 1 for p in plain["params"])
    assert plain["lars_exclude"] is True and plain["weight_decay"] == 0
    assert (decayed["momentum"], decayed["eta"]) == (0.9, 1e-3)
    if name == "byol_rn50":
        momentum = ends["target momentum"]
        assert (momentum.first, momentum.last) == (0.996, 1)
        assert cfg.custom_hooks[0].schedule == "cosine"


def test_simclr_s_parts_and_views() -> None:
    cfg = load_config("simclr_rn50")
    model = build(cfg)
    neck = model.neck
    assert (neck.fc0.in_features, neck.fc0.out_features, neck.fc1.out_features) == (2048, 2048, 128)
    assert isinstance(neck.bn0, SyncBatchNorm) and isinstance(neck.bn1, SyncBatchNorm)
    assert model.head.temperature == 0.1
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, SyncBatchNorm) for m in norms)
    (view,) = views(cfg).values()
    assert view["crop"] == dict(size=224, scale=(0.08, 1.0), num=2, interpolation="bicubic")
    assert view["ColorJitter"] == dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.8)
    assert (view["Grayscale"]["p"], view["HorizontalFlip"]["p"]) == (0.2, 0.5)
    assert view["GaussianBlur"] == dict(p=0.5, radius=(0.1, 2.0))


def test_byol_s_parts_and_views() -> None:
    cfg = load_config("byol_rn50")
    model = build(cfg)
    for mlp, width in ((model.neck, 2048), (model.head.predictor, 256)):
        sizes = (mlp.fc0.in_features, mlp.fc0.out_features, mlp.fc1.out_features)
        assert sizes == (width, 4096, 256)
        assert isinstance(mlp.bn0, SyncBatchNorm) and not hasattr(mlp, "bn1")
    one, two = views(cfg).values()
    for view in (one, two):
        assert view["crop"] == dict(size=224, scale=(0.08, 1.0), interpolation="bicubic")
        jitter = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8)
        assert view["ColorJitter"] == jitter and view["Grayscale"]["p"] == 0.2
    assert (one["GaussianBlur"]["p"], two["GaussianBlur"]["p"]) == (1.0, 0.1)
    assert "Solarize" not in one and two["Solarize"] == dict(p=0.2, threshold=128)


@pytest.mark.parametrize("name", ["simclr_rn101", "byol_rn200w2"])
def test_a_published_checkpoint_s_row_is_the_same_network(name: str) -> None:
    row = load_config(f"configs/eval/backbones/{name}.py")
    own = load_config(name).model.backbone
    assert {**row.model} == {k: v for k, v in own.items() if k != "zero_init_residual"}


def test_supervised_recipes() -> None:
    deit = load_config("supervised_vits16")
    model = build(deit)
    assert model.backbone.embed_dim == 384
    erase = deit.train_dataloader.dataset.transform.augment[1]
    assert (erase.type, erase.erase_prob) == ("RandomErasing", 0.25)
    rate = {e.name: e for e in schedule_ends(deit)}["learning rate"]
    assert (rate.first, rate.last) == (pytest.approx(1e-6), pytest.approx(1e-5, rel=1e-3))
    assert rate.highest[1] == pytest.approx(5, abs=0.3)
    assert deit.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0

    resnet = load_config("supervised_rn50")
    rate = {e.name: e for e in schedule_ends(resnet)}["learning rate"]
    assert (rate.first, rate.last) == (0.1, pytest.approx(0.001))
    settings = copy.deepcopy(resnet.optim_wrapper)
    assert settings.pop("constructor", None) is None, "one group: everything is decayed"
    assert resnet.param_scheduler[0].milestones == [30, 60]
    assert build(resnet).head.fc.in_features == 2048


@pytest.mark.parametrize("name", [*(n for n in PAPER if n not in LARGER), *DIGITS])
def test_every_config_takes_a_step(name: str, tmp_path: Path) -> None:
    """Only width, depth, batch and the number of steps differ from the real thing."""
    cfg = load_config(name)
    if name not in DIGITS:
        root = labelled_tree(tmp_path / "imagenet")
        cfg = load_config(name, {"data_root": str(root / "train")})
        data = part_images(cfg)
        assert data["support"].classes == data["query"].classes == ("n01", "n02")
        if "num_classes" in cfg.model.head:
            cfg.model.head.num_classes, cfg.val_evaluator.topk = 2, (1,)
    small: dict[str, Any] = dict(layers=(1, 1), base_channels=8)
    if cfg.model.backbone.type == "MaskedViT":
        small = dict(embed_dim=24, depth=1, num_heads=3)
    cfg.merge_from_dict(
        {
            "model.backbone": small,
            "global_batch_size": 2,
            "base_batch_size": 2,
        }
    )
    for loader in (cfg.train_dataloader, cfg.get("val_dataloader")):
        if loader is not None:
            loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.train_cfg = dict(by_epoch=False, max_iters=1, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1, by_epoch=False)
    losses: list[float] = []
    runner = run(cfg, tmp_path / "out", lambda _, outputs: losses.append(outputs["loss"].item()))
    assert runner.iter == 1 and math.isfinite(losses[0]) and losses[0] > 0
    assert (tmp_path / "out" / "iter_1.pth").is_file()
