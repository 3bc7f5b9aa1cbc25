"""Classifiers with their heads against the libraries that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

import msn_mm
from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.classifier import build_classifier, load_classifier
from msn_mm.convert.format import IMAGENET_MEAN, Converted
from msn_mm.errors import UserError


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("library", [torchvision.models.get_model, timm.create_model])
@pytest.mark.parametrize("size", [64, 49])
def test_supervised_resnet(library: Any, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = library("resnet18", num_classes=7).eval()
    torch.save(original.state_dict(), tmp_path / "resnet18.pth")
    state = torch.get_rng_state()
    model = msn_mm.load_classifier(tmp_path / "resnet18.pth")
    assert torch.equal(state, torch.get_rng_state())
    assert model.num_classes == 7 and model.mean == IMAGENET_MEAN and not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert_close(model(images), original(images))


def vit_of(original: torch.nn.Module, pooling: str) -> Converted:
    head = {name: getattr(original.head, name) for name in ("weight", "bias")}
    options: dict[str, Any] = {}
    if pooling == "mean":
        head |= {f"norm.{name}": getattr(original.fc_norm, name) for name in ("weight", "bias")}
        options = dict(final_norm=False)
    kept = ("head.", "fc_norm.")
    state = {f"vit.{k}": v for k, v in original.state_dict().items() if not k.startswith(kept)}
    architecture = ViTArchitecture(24, 2, 3, 8, 32, options=options)
    return Converted("timm_vit", architecture, state, head, pooling=pooling)  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vit(pooling: str) -> None:
    """timm's ViT reads its CLS token; fine-tuned MAE's the mean, with a norm of its own."""
    torch.manual_seed(0)
    sizes = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
    original = timm.create_model(
        "vit_tiny_patch16_224", **sizes, global_pool="avg" if pooling == "mean" else "token"
    ).eval()
    for name, weight in original.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model = build_classifier(vit_of(original, pooling), "vit.pth")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert_close(model(images), original(images))


def test_an_encoder_without_head_is_refused(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    bare = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(bare, tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"bare\.pth' \(torchvision_resnet\) has no classification"):
        load_classifier(tmp_path / "bare.pth")


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    state["fc.weight"] = torch.zeros(1000, 2048)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="reads 2048 numbers and the encoder gives 512"):
        load_classifier(tmp_path / "odd.pth")
