"""ResNets of mmpretrain's classifiers and self-supervised methods, against its own classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from msn_mm.convert.format import load_trunk
from msn_mm.registry import MODELS

from .resnets import assert_same_features, prefixed, randomise, read


def mmpretrain(config: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return randomise(MODELS.build(config))


RN18 = dict(type="mmpretrain.ResNet", depth=18)
NECK = dict(
    type="mmpretrain.NonLinearNeck",
    in_channels=512,
    hid_channels=8,
    out_channels=4,
    num_layers=2,
    with_avg_pool=True,
)
PREDICTOR = {**NECK, "in_channels": 4, "with_avg_pool": False}
SIMCLR = dict(
    type="mmpretrain.SimCLR",
    neck=NECK,
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.1),
)
BYOL = dict(
    type="mmpretrain.BYOL",
    neck=NECK,
    head=dict(
        type="LatentPredictHead",
        predictor=PREDICTOR,
        loss=dict(type="CosineSimilarityLoss"),
    ),
)
MOCOV3 = dict(
    type="mmpretrain.MoCoV3",
    neck=NECK,
    head=dict(
        type="MoCoV3Head", predictor=PREDICTOR, loss=dict(type="CrossEntropyLoss"), temperature=1.0
    ),
)
MOCOV2 = dict(
    type="mmpretrain.MoCo",
    queue_len=8,
    feat_dim=4,
    momentum=0.01,
    neck={**NECK, "type": "mmpretrain.MoCoV2Neck"},
    head=SIMCLR["head"],
)
MOCOV2["neck"] = {k: v for k, v in NECK.items() if k != "num_layers"} | dict(type="MoCoV2Neck")


@pytest.mark.parametrize(
    "method",
    [SIMCLR, BYOL, MOCOV3, MOCOV2],
    ids=lambda config: config["type"].split(".")[1],
)
def test_mmpretrain_self_supervision(method: dict[str, Any]) -> None:
    original = mmpretrain({**method, "backbone": RN18})
    found = read({"meta": {}, "state_dict": original.state_dict()})
    assert found.format == "mmpretrain_resnet" and not found.classifier
    assert any(name.startswith("neck.") for name in found.ignored)
    assert_same_features(found, lambda x: original.backbone(x)[-1].mean(dim=(2, 3)))


def test_mmpretrain_classifier_and_width() -> None:
    """A stem and stages of half and twice the width, and the classifier on top."""
    wide = {**RN18, "stem_channels": 32, "base_channels": 128, "in_channels": 1}
    head = dict(type="LinearClsHead", num_classes=3, in_channels=1024)
    original = mmpretrain(
        dict(
            type="mmpretrain.ImageClassifier",
            backbone=wide,
            neck=dict(type="GlobalAveragePooling"),
            head=head,
        )
    )
    found = read({"meta": {}, "state_dict": original.state_dict()})
    assert found.architecture.describe() == "ResNet-18, 2 times as wide, 1 channels"
    assert_same_features(found, lambda x: original.backbone(x)[-1].mean(dim=(2, 3)))
    trunk = load_trunk(found, "some.pth")
    images = torch.randn(2, 1, 64, 64)
    logits = nn.functional.linear(trunk(images), **found.classifier)
    assert torch.allclose(logits, original(images), rtol=1e-5, atol=1e-5)


def test_mmpretrain_for_small_images() -> None:
    original = mmpretrain(dict(type="mmpretrain.ResNet_CIFAR", depth=18))
    found = read({"state_dict": prefixed(original.state_dict(), "backbone.")})
    assert "stem for small images" in found.architecture.describe()
    assert_same_features(found, lambda x: original(x)[-1].mean(dim=(2, 3)), sizes=(32, 17))
