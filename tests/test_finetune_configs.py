"""Fine-tuning configs at their real size against appendix C.4 and C.5, and a step of each."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image

from msn_mm.engine.batch import apply_batch, resolve_batch
from msn_mm.engine.launch import load_config
from msn_mm.engine.schedule_ends import schedule_ends
from msn_mm.models.ops.stochastic_depth import KeyedDropPath
from msn_mm.registry import DATASETS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from msn_mm.utils.config_files import config_directories
from msn_mm.utils.dry_run import dry_run

CONFIGS = sorted(p.name for p in config_directories()[0].glob("finetune_*.py"))

# name: (classes, epochs, batch, learning rate, layer-wise decay, drop path), of C.4 and C.5.
PAPER = {
    "finetune_vitb16.py": (1000, 100, 1024, 2e-3, 0.65, 0.2),
    "finetune_vitb16_cifar10.py": (10, 1000, 768, 7.5e-5, 1.0, 0.1),
    "finetune_vitb16_cifar100.py": (100, 1000, 768, 7.5e-5, 1.0, 0.1),
    "finetune_vitb16_inat18.py": (8142, 300, 1024, 1e-4, 1.0, 0.1),
    "finetune_vitb16_inat19.py": (1010, 300, 1024, 1e-4, 1.0, 0.1),
}

# name: (data to train on, data to validate on)
DATA = {
    "finetune_vitb16.py": tuple(
        dict(type="ImageFolder", data_root=f"data/imagenet/{part}", labels="folder")
        for part in ("train", "val")
    ),
    **{
        f"finetune_vitb16_{name.lower()}.py": tuple(
            dict(type=name, data_root=f"data/{name.lower()}", split=part)
            for part in ("train", "test")
        )
        for name in ("CIFAR10", "CIFAR100")
    },
    **{
        f"finetune_vitb16_inat{year}.py": tuple(
            dict(type="INaturalist", data_root=f"data/inat{year}", ann_file=f"{part}20{year}.json")
            for part in ("train", "val")
        )
        for year in (18, 19)
    },
}


def test_every_config_is_listed():
    assert set(CONFIGS) == set(PAPER) | {"finetune_digits.py"}


@pytest.fixture(params=PAPER)
def config(request):
    return load_config(f"configs/{request.param}"), PAPER[request.param]


def build(cfg):
    with torch.device("meta"):
        return MODELS.build(copy.deepcopy(cfg.model))


def test_model_loss_and_mixing(config):
    cfg, (classes, _, _, _, _, drop) = config
    model = build(cfg)
    width = 768
    own = sum(p.numel() for p in model.parameters())
    # timm's count of vit_base_patch16_224 less its head
    assert own == 85_798_656 + width * classes + classes
    rates = [m.rate for m in model.backbone.modules() if isinstance(m, KeyedDropPath)]
    # The first block drops nothing; each block has two branches.
    assert rates == pytest.approx([drop * i / 11 for i in range(1, 12) for _ in range(2)])
    loss = model.head.loss_module
    assert (loss.label_smooth_val, loss.mode, loss._eps) == (0.1, "original", 0.1)
    mixing = model.data_preprocessor.batch_augments
    found = {type(a).__name__: a.alpha for a in mixing.augments}
    assert found == {"Mixup": 0.8, "CutMix": 1.0} and mixing.probs is None
    assert model.data_preprocessor.num_classes == model.head.num_classes == classes


def loaders(cfg):
    return cfg.train_dataloader.dataset, cfg.val_dataloader.dataset


@pytest.mark.parametrize("name", PAPER)
def test_data(name):
    parts = loaders(load_config(f"configs/{name}"))
    assert [part.type for part in parts] == ["LabelledViews"] * 2
    assert [dict(part.dataset) for part in parts] == list(DATA[name])


@pytest.mark.parametrize("year", [2018, 2019])
def test_inaturalist_s_annotations(year, tmp_path):
    """The real loaders, on annotation files of two images that bear the published names."""
    images = [{"id": i, "file_name": f"train_val{year}/x/{i}.png"} for i in (5, 6)]
    (tmp_path / f"train_val{year}" / "x").mkdir(parents=True)
    for image in images:
        Image.new("RGB", (40, 30)).save(tmp_path / image["file_name"])
    categories = [{"id": i, "name": f"species {i}"} for i in (7, 9)]
    for part, species in (("train", (9, 7)), ("val", (9, 9))):
        content = {
            "images": images,
            "annotations": [
                {"image_id": image["id"], "category_id": own}
                for image, own in zip(images, species, strict=True)
            ],
            "categories": categories,
        }
        (tmp_path / f"{part}{year}.json").write_text(json.dumps(content))
    parts = loaders(load_config(f"configs/finetune_vitb16_inat{year % 100}.py"))
    for part, labels in zip(parts, ([1, 0], [1, 1]), strict=True):
        part.dataset.data_root = str(tmp_path)
        data = DATASETS.build(part)
        assert [data[i]["data_samples"]["label"] for i in range(len(data))] == labels
        assert (
            data[0]["inputs"].shape == (3, 224, 224) and not data[0]["data_samples"]["unreadable"]
        )
        assert data.metainfo["classes"] == ("species 7", "species 9")


def test_augmentations(config):
    cfg, _ = config
    crop = TRANSFORMS.build(cfg.train_dataloader.dataset.transform)
    assert (crop.size, crop.flip, crop.scale, crop.ratio) == (224, 0.5, (0.08, 1), (3 / 4, 4 / 3))
    (augment,) = crop.augment
    settings = augment.augment
    assert type(settings).__name__ == "RandAugment"
    assert (settings.magnitude_level, settings.magnitude_std) == (9, 0.5)
    assert (settings.num_policies, settings.total_level, len(settings.policies)) == (2, 10, 15)
    view = TRANSFORMS.build(cfg.val_dataloader.dataset.transform)
    assert (view.size, view.crop) == ([256], 224)


def test_batch_and_schedule(config):
    cfg, (_, epochs, batch, rate, _, _) = config
    for processes in (1, 4, 8):
        plan = resolve_batch(cfg, processes)
        assert plan.global_batch == batch and plan.lr_scale == 1
    apply_batch(cfg, resolve_batch(cfg, 8))
    assert cfg.train_dataloader.batch_size == batch // 8
    assert cfg.train_cfg.max_epochs == epochs
    ends = {e.name: e for e in schedule_ends(cfg)}["learning rate"]
    assert ends.first == pytest.approx(rate / 1000)
    assert ends.highest == (pytest.approx(rate), pytest.approx(5, abs=0.3))
    assert ends.last < rate * 1e-3
    warm, cosine = cfg.param_scheduler
    assert (warm.type, warm.end, cosine.type, cosine.begin) == (
        "LinearLR",
        5,
        "CosineAnnealingLR",
        5,
    )


def test_optimizer_and_layer_wise_rates(config):
    cfg, (_, _, _, rate, decay, _) = config
    model = build(cfg)
    settings = copy.deepcopy(cfg.optim_wrapper)
    settings.optimizer.fused = False  # torch has no fused step on a meta tensor
    kind = settings.pop("constructor")
    make = OPTIM_WRAPPER_CONSTRUCTORS.get(kind)(settings, settings.pop("paramwise_cfg"))
    optimizer = make(model).optimizer
    assert type(optimizer) is torch.optim.AdamW
    names = {id(p): n for n, p in model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert set(seen) == set(names.values())
    for name, (lr, weight_decay) in seen.items():
        parts = name.split(".")
        # 0: patches and positions; 1 to 12: blocks; 13: norm and head
        layer = 0
        if parts[:3] == ["backbone", "vit", "blocks"]:
            layer = int(parts[3]) + 1
        elif parts[0] == "head" or parts[2] == "norm":
            layer = 13
        assert lr == pytest.approx(rate * decay ** (13 - layer)), name
        free = name.endswith(("bias", "norm1.weight", "norm2.weight", "norm.weight"))
        free = free or name.endswith(("cls_token", "pos_embed"))
        assert weight_decay == (0.0 if free else 0.05), name
    assert len(optimizer.param_groups) == (2 if decay == 1 else 28)


def test_a_dry_run_tells_tokens_and_schedule():
    told = dry_run(load_config("finetune_vitb16"), processes=8)
    assert "224 pixels, 197 tokens with CLS" in told
    assert "86,567,656 trained, 0 fixed" in told
    assert "128 a process x 8 x 1 accumulated = 1024" in told


def save_images(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.mark.parametrize("name", PAPER)
def test_every_config_takes_a_step(name, tmp_path):
    """Only sizes, data, batch and the number of steps differ from the real thing."""
    root = save_images(tmp_path / "images")
    cfg = load_config(f"configs/{name}")
    for part, folder in (("train", "train"), ("val", "val")):
        loader = cfg[f"{part}_dataloader"]
        loader.dataset.dataset = dict(
            type="ImageFolder", data_root=str(root / folder), labels="folder"
        )
        loader.num_workers, loader.persistent_workers = 0, False
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dim": 24,
            "model.backbone.depth": 2,
            "model.backbone.num_heads": 3,
            "model.head.num_classes": 2,
            "global_batch_size": 4,
            "base_batch_size": 4,
            "val_dataloader.batch_size": 2,
            "train_dataloader.pin_memory": False,
            "train_cfg.max_epochs": 1,
            "train_cfg.val_interval": 1,
        }
    )
    cfg.param_scheduler = []
    losses = []
    runner = run(cfg, tmp_path / "out", lambda _, outputs: losses.append(outputs["loss"].item()))
    assert runner.iter == 1 and math.isfinite(losses[0]) and losses[0] > 0
    assert "val/accuracy/top1" in runner.message_hub.log_scalars
