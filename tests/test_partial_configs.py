"""Partial fine-tuning as a config: what is trained, on which images, and with which settings."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.datasets import Digits, LabelledViews
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.partial.recipe import DEFAULT_TRIAL, PartialRecipe
from msn_mm.models.classifiers.last_block import LastBlockClassifier
from msn_mm.models.classifiers.trunk_classifier import TrunkClassifier
from msn_mm.models.ops.stochastic_depth import KeyedDropPath
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
BACKBONE = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
BACKBONE |= dict(embed_dim=24, depth=3, num_heads=3)


def classifier(blocks: int | None = 1, **backbone: Any) -> TrunkClassifier:
    torch.manual_seed(0)
    loss = dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original")
    head = dict(type="LinearClsHead", num_classes=4, loss=loss)
    return TrunkClassifier({**BACKBONE, **backbone}, head, trained_blocks=blocks)


def test_the_settings_are_those_of_the_tool() -> None:
    cfg, recipe = load_config("configs/partial_vitb16.py"), PartialRecipe()
    optimizer, warm, cosine = cfg.optim_wrapper.optimizer, *cfg.param_scheduler
    assert (optimizer.lr, cfg.train_cfg.max_epochs) == (DEFAULT_TRIAL.lr, DEFAULT_TRIAL.epochs)
    assert cfg.global_batch_size == cfg.base_batch_size == recipe.batch
    assert (optimizer.weight_decay, optimizer.betas) == (recipe.weight_decay, recipe.betas)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == recipe.layer_decay
    assert warm.end / DEFAULT_TRIAL.epochs == recipe.warmup and cosine.begin == warm.end
    assert cfg.model.head.loss.label_smooth_val == recipe.label_smoothing
    assert cfg.model.data_preprocessor.batch_augments is None
    crop = cfg.train_dataloader.dataset.transform
    assert (crop.scale, crop.flip, list(crop.augment)) == (recipe.scale, recipe.flip, [])
    with torch.device("meta"):
        model: Any = MODELS.build(cfg.model)
    paths = [m for m in model.modules() if isinstance(m, KeyedDropPath)]
    # both branches of the last block, and no other
    assert [path.rate for path in paths if path.rate] == [pytest.approx(recipe.drop_path)] * 2
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 1)[0].split(".mlp")[0].split(".attn")[0] for name in trained} == {
        *(f"backbone.vit.blocks.11{part}" for part in ("", ".norm1", ".norm2")),
        "backbone.vit.norm",
        "head.fc",
    }


def test_it_is_the_last_block_under_a_head() -> None:
    model = classifier().double().train()
    alone = LastBlockClassifier(model.backbone, 4, drop_path=0.0).double().train()
    alone.head.load_state_dict(model.head.fc.state_dict())
    g = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 32, 32, generator=g, dtype=torch.float64)
    keys = torch.arange(5)
    ours = model(images, {"key": keys})
    theirs = alone(model.backbone.tokens_before_last(images), keys)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for name, parameter in alone.block.named_parameters():
        twin = model.backbone.vit.blocks[-1].get_parameter(name)
        torch.testing.assert_close(twin.grad, parameter.grad, rtol=1e-10, atol=1e-12)
    for block in model.backbone.vit.blocks[:-1]:
        assert all(parameter.grad is None for parameter in block.parameters())


@pytest.mark.parametrize("rate", ["pos_drop_rate", "proj_drop_rate", "attn_drop_rate"])
def test_the_frozen_part_drops_nothing_in_training(rate: str) -> None:
    model = classifier(**{rate: 0.5, "drop_path_rate": 0.3})
    images = torch.randn(4, 3, 32, 32)
    quiet = model.backbone.eval().tokens_before_last(images)
    model.train()
    torch.testing.assert_close(model.backbone.tokens_before_last(images), quiet)
    last = [m.p for m in model.backbone.vit.blocks[-1].modules() if isinstance(m, torch.nn.Dropout)]
    assert (0.5 in last) == (rate != "pos_drop_rate")  # what is trained drops as it is told


@pytest.mark.parametrize("blocks", [0, 4, True, "1", 1.0])
def test_impossible_numbers_of_blocks(blocks: Any) -> None:
    with pytest.raises(UserError, match=r"model\.trained_blocks is .*has 1 to 3 blocks"):
        classifier(blocks)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="PlainResNet has no last block"):
        TrunkClassifier(
            dict(type="PlainResNet", layers=(1, 1), block="basic", base_channels=8),
            dict(type="LinearClsHead", num_classes=4),
            trained_blocks=1,
        )


def test_a_training_on_the_named_images_moves_the_last_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config("configs/partial_digits.py")
    torch.manual_seed(0)
    before = MODELS.build(cfg.model).state_dict()
    torch.save({"state_dict": before}, "start.pth")
    digits = Digits(split="pretrain")
    by_class: dict[int, list[int]] = {}
    for place in range(len(digits)):
        label = int(digits.get_data_info(place)["gt_label"])
        by_class.setdefault(label, []).append(place)
    chosen = sorted(place for places in by_class.values() for place in places[:2])
    width = len(str(len(digits) - 1))
    Path("two.txt").write_text("".join(f"{place:0{width}d}\n" for place in chosen))
    options = ["train_dataloader.dataset.subset_file=two.txt", "global_batch_size=10"]
    options += ["base_batch_size=10", "train_cfg.max_epochs=2", "param_scheduler.0.end=1"]
    options += ["param_scheduler.1.begin=1", "val_dataloader.dataset.indices=[0,1,2]"]
    main = runpy.run_path(str(ROOT / "tools" / "finetune.py"))["main"]
    words = ["configs/partial_digits.py", "start.pth", "--out", "out", "--cfg-options", *options]
    assert main(words) == 0
    after = torch.load("out/epoch_2.pth", weights_only=True)
    moved = {
        name.split(".")[3] if "blocks" in name else name
        for name, value in after["state_dict"].items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"3", "backbone.vit.norm.weight", "backbone.vit.norm.bias"} | {
        name for name in before if name.startswith("head.")
    }
    dataset = LabelledViews(digits, lambda info: None, subset_file="two.txt")  # type: ignore[arg-type,return-value]
    assert len(dataset) == 20 and [dataset.place(k) for k in range(20)] == chosen
    assert after["meta"]["iter"] == 4


def test_mistakes_in_the_subset(tmp_path: Path) -> None:
    digits = Digits(split="pretrain")
    file = tmp_path / "names.txt"
    with pytest.raises(UserError, match="does not exist"):
        LabelledViews(digits, lambda info: None, subset_file=str(file))  # type: ignore[arg-type,return-value]
    file.write_text("nobody.png\n")
    with pytest.raises(UserError, match=r"names\.txt, line 1"):
        LabelledViews(digits, lambda info: None, subset_file=str(file))  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match="give one of the two"):
        LabelledViews(digits, lambda info: None, [0], subset_file=str(file))  # type: ignore[arg-type,return-value]
