"""Every config takes a step at tiny size; every paper config is right at its real size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from msn_mm.engine.batch import resolve_batch
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.protocol import evaluation_parts
from msn_mm.utils.config_files import config_directories
from msn_mm.utils.dry_run import make_plan
from tests.helpers import run, save_cifar
from tests.packed import write_parquet, write_tars

CONFIGS = sorted(p.name for p in config_directories()[0].glob("*msn_*.py"))

# name: (backbone parameters in millions, target, anchor and focal tokens with CLS, epochs).
# The parameters are timm's counts of the classifiers (22.05, 86.57, 304.33) less
# the head, with the patch embedding and positions of the patch size.
PAPER = {
    "msn_vits16.py": (21.67, 197, 167, 37, 800),
    "msn_vits16_nosinkhorn.py": (21.67, 197, 167, 37, 800),
    "msn_vits16_released.py": (21.67, 197, 167, 37, 800),
    "pmsn_vits16.py": (21.67, 197, 167, 37, 800),
    "msn_vitb16.py": (85.80, 197, 138, 37, 600),
    "msn_vitb8.py": (85.81, 785, 549, 145, 600),
    "msn_vitb4.py": (87.50, 3137, 941, 577, 300),
    "msn_vitl16.py": (303.30, 197, 99, 37, 600),
    "msn_vitl7.py": (303.51, 1025, 308, 170, 200),
    "msn_vitl7_fsdp.py": (303.51, 1025, 308, 170, 200),
    # Not in the paper.
    "msn_vith14.py": (630.76, 257, 129, 37, 600),
    "msn_vith14_fsdp.py": (630.76, 257, 129, 37, 600),
}


PACKED = {"TarShards": write_tars, "ParquetImages": write_parquet}


def save_images(root: Path, count: int = 6) -> Path:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (120, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.jpg")
    return root


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_takes_a_step(name, tmp_path, monkeypatch):
    """Only width, depth, batch and the number of steps differ from the real thing."""
    cfg = load_config(f"configs/{name}")
    real = cfg.train_dataloader.dataset.dataset.type
    if real in PACKED or real == "ImageFolder":
        root = tmp_path / "images"
        for name_of_class in ("one", "two"):
            save_images(root / name_of_class)
        if real in PACKED:
            pytest.importorskip("webdataset" if real == "TarShards" else "pyarrow")
            monkeypatch.setenv("MSN_MM_CACHE", str(tmp_path / "cache"))
            root = PACKED[real](tmp_path / "packed", sorted(root.rglob("*.*")))[0].parent
        root = str(root)
        cfg = load_config(f"configs/{name}", {"train_dataloader.dataset.dataset.data_root": root})
    elif real == "CIFAR10":
        root = str(save_cifar(tmp_path / "cifar", monkeypatch))
        cfg = load_config(f"configs/{name}", {"data_root": root})
    if cfg.get("val_dataloader") is not None and real in ("CIFAR10", "ImageFolder"):
        for part in ("support", "query"):
            cfg.val_dataloader.dataset[part].data_root = root
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dim": 24,
            "model.backbone.depth": 1,
            "model.backbone.num_heads": 3,
            "model.head.hidden_dim": 16,
            "global_batch_size": 2,
            "base_batch_size": 2,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "train_dataloader.pin_memory": False,
        }
    )
    # One step: the loop counts iterations, the schedules are driven in tests/engine.
    cfg.train_cfg = dict(by_epoch=False, max_iters=1, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1, by_epoch=False)
    losses = []
    runner = run(cfg, tmp_path / "out", lambda _, outputs: losses.append(outputs["loss"].item()))
    assert runner.iter == 1
    assert math.isfinite(losses[0]) and losses[0] > 0
    assert (tmp_path / "out" / "iter_1.pth").is_file()


def hops(file: Path) -> int:
    """Most files between a config and the end of what it inherits, counting itself out."""
    bases = Config._get_base_files(str(file))
    return max((1 + hops(file.parent / base) for base in bases), default=0)


def test_parts_are_at_most_two_hops_away():
    folder = config_directories()[0]
    deep = {}
    for file in folder.rglob("*.py"):
        leaves = [b for b in Config._get_base_files(str(file)) if "_base_" not in b]
        # A variation of another leaf lies one hop further.
        deep[file.name] = hops(file) - bool(leaves and "_base_" not in file.parts)
    assert max(deep.values()) == 2, deep


def test_every_paper_config_is_listed():
    small = {"msn_cifar10.py", "msn_digits.py", "msn_folder.py", "pmsn_digits.py"}
    small |= {"msn_shards.py", "msn_parquet.py", "msn_photographs.py"}
    assert set(PAPER) | small == set(CONFIGS)


@pytest.mark.parametrize("name", PAPER)
def test_paper_config_at_its_real_size(name):
    millions, target, anchor, focal, epochs = PAPER[name]
    cfg = load_config(f"configs/{name}")
    plan = make_plan(cfg, processes=8)
    head = sum_head(cfg, width=round_width(millions))
    assert (plan.trained - head) / 1e6 == pytest.approx(millions, abs=0.006)
    # The target has no prototypes of its own.
    assert plan.trained - plan.target == 1024 * 256
    assert {v.name: v.tokens for v in plan.views} == {
        "target": target,
        "anchor": anchor,
        "focal": focal,
    }
    assert [v.num for v in plan.views] == [1, 1, 10]
    assert cfg.train_cfg.max_epochs == epochs
    for processes in (1, 4, 8):
        batch = resolve_batch(cfg, processes)
        assert batch.process_batch * processes == batch.global_batch == 1024
        assert batch.lr_scale == 1
    ends = {e.name: e for e in plan.schedules}
    assert ends["learning rate"].first == pytest.approx(2e-4)
    assert ends["learning rate"].highest[0] == pytest.approx(1e-3)
    assert ends["weight decay"].first == pytest.approx(0.04)
    if "released" not in name:
        assert ends["learning rate"].last < 1e-7
        assert ends["weight decay"].last == pytest.approx(0.4, rel=1e-4)
        assert ends["target momentum"].last == 1
    assert ends["target momentum"].first == 0.996
    assert plan.memory is not None
    weights = plan.memory.total - plan.memory.activations
    if name.endswith("_fsdp.py"):
        # Shards of an eighth, and the few parameters that are whole at once.
        assert 20 * plan.trained / 8 < weights < 20 * plan.trained / 4
    else:
        assert weights > 16 * plan.trained
    print(f"{name}: {plan.memory.total / 2**30:.1f} GiB a device of 8, predicted")


def round_width(millions: float) -> int:
    return 384 if millions < 50 else 768 if millions < 200 else 1024 if millions < 400 else 1280


def sum_head(cfg, width: int) -> int:
    """Parameters of projector and prototypes, counted by hand."""
    hidden, out, k = cfg.model.head.hidden_dim, cfg.model.head.output_dim, 1024
    linear = (width + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * out
    return linear + 2 * 2 * hidden + k * out


def test_a_backbone_swap_is_three_lines(tmp_path):
    from msn_mm.registry import MODELS

    base = config_directories()[0] / "msn_digits.py"
    swap = tmp_path / "my_backbone.py"
    swap.write_text(
        f'_base_ = ["{base}"]\n'
        'model = dict(backbone=dict(_delete_=True, type="MaskedViT", '
        'name="deit3_small_patch16_224",\n    img_size=32, patch_size=8, in_chans=1, depth=2))\n'
    )
    cfg = load_config(swap)
    model = MODELS.build(cfg.model)
    assert model.backbone.vit.embed_dim == 384
    assert model.backbone.vit.no_embed_class, "DeiT-3 gives the CLS token no position"
    assert model.head.projector[0].in_features == 384


def labelled_tree(root: Path) -> Path:
    for name in ("train/n01/a.JPEG", "train/n02/b.JPEG", "val/n01/c.JPEG", "val/n02/d.JPEG"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 280)).save(root / name, format="JPEG")
    return root


@pytest.mark.parametrize("name", PAPER)
def test_paper_configs_name_the_labelled_data_of_the_low_shot_protocol(name, tmp_path):
    cfg = load_config(f"configs/{name}")
    dataset = cfg.test_dataloader.dataset
    assert (dataset.support.data_root, dataset.query.data_root) == (
        "data/imagenet/train",
        "data/imagenet/val",
    )
    assert "val_dataloader" not in cfg, "training validates nothing"
    assert "labels" not in cfg.train_dataloader.dataset.dataset
    root = labelled_tree(tmp_path / "imagenet")
    cfg = load_config(f"configs/{name}", {"data_root": str(root / "train")})
    assert evaluation_parts(cfg, "test")[1]["images_per_class"] == (1, 2, 5)
    data = labelled_data(cfg)
    assert data.classes == ("n01", "n02")
    assert data.support.paths == [str(root / "train" / p) for p in ("n01/a.JPEG", "n02/b.JPEG")]
    assert data.query.paths == [str(root / "val" / p) for p in ("n01/c.JPEG", "n02/d.JPEG")]
    assert data.query[0].shape == (3, 224, 224)
    assert (data.query.transform.size, data.query.transform.crop) == ([256], 224)


def test_labelled_data_whose_place_is_named_stays_there():
    options = {"data_root": "x/train/", "test_dataloader.dataset.query.data_root": "y/val"}
    dataset = load_config("msn_vits16", options).test_dataloader.dataset
    assert (dataset.support.data_root, dataset.query.data_root) == ("x/train/", "y/val")
    # also when it is named where it lay before
    options["test_dataloader.dataset.query.data_root"] = "data/imagenet/val"
    dataset = load_config("msn_vits16", options).test_dataloader.dataset
    assert dataset.query.data_root == "data/imagenet/val"
    dataset = load_config("msn_vits16", {"data_root": "images"}).test_dataloader.dataset
    assert (dataset.support.data_root, dataset.query.data_root) == ("images", "val")


def test_other_evaluation_data_stays_where_it_is(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        f"_base_ = ['{config_directories()[0] / 'msn_folder.py'}']\n"
        "part = dict(type='ImageFolder', labels='folder')\n"
        "test_dataloader = dict(dataset=dict(type='LabelledImages',\n"
        "    support=dict(part, data_root='labels/train'),\n"
        "    query=dict(part, data_root='data/val'),\n"
        "    transform=dict(type='EvalCrop')))\n"
    )
    dataset = load_config(own, {"data_root": "elsewhere/images"}).test_dataloader.dataset
    assert (dataset.support.data_root, dataset.query.data_root) == ("labels/train", "data/val")


def test_a_folder_of_one_s_own_has_no_labels():
    cfg = load_config("msn_folder")
    assert not [key for key in cfg if key.startswith(("val_", "test_"))]
    with pytest.raises(UserError, match="names no labelled data"):
        labelled_data(cfg)


@pytest.mark.parametrize("size", ["vits16", "digits"])
def test_pmsn_is_msn_but_for_its_prior(size):
    msn, pmsn = (load_config(f"{name}_{size}").to_dict() for name in ("msn", "pmsn"))
    loss = pmsn["model"].pop("loss")
    assert msn["model"].pop("loss")["type"] == "MSNLoss"
    assert (loss["type"], loss["exponent"], loss["sinkhorn_iterations"]) == ("PMSNLoss", 0.25, 0)
    assert (loss["anchor_temperature"], loss["target_temperature"]) == (0.1, 0.025)
    assert pmsn == msn
