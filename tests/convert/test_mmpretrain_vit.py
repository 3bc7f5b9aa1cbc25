"""mmpretrain's ViTs, converted, against mmpretrain's own classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.heads import LinearClsHead, VisionTransformerClsHead
from torch import nn

from msn_mm.convert.format import RawCheckpoint, convert, load_trunk

from . import reference
from .test_vit_formats import assert_same, below, images

SIZES = [(32, 32), (24, 24), (56, 56), (24, 40)]
ARCH = dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768)


def backbone(**changes: Any) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(**(dict(arch=ARCH, img_size=32, patch_size=8) | changes))
    model.eval()  # returns nothing
    _randomise(model)
    return model


def _randomise(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)


def read(state: dict[str, torch.Tensor], **arch: Any):
    content = {"meta": {"epoch": 1}, "state_dict": state, "message_hub": {}}
    return convert(RawCheckpoint("epoch_1.pth", content), "auto", arch)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(layer_scale_init_value=0.5),
        dict(pre_norm=True, qkv_bias=False),
        dict(layer_scale_init_value=0.5, layer_cfgs=dict(ffn_type="swiglu_fused")),
    ],
)
def test_classifier_equals_mmpretrain(changes):
    model = backbone(**changes)
    head = VisionTransformerClsHead(num_classes=5, in_channels=192)
    _randomise(head)
    state = below("backbone.", model.state_dict()) | below("head.", head.state_dict())
    converted = read(state)
    assert (converted.format, converted.ignored) == ("mmpretrain_vit", [])
    trunk = load_trunk(converted, "epoch_1.pth")
    for size in SIZES:
        batch = images(*size)
        (cls,) = model(batch)
        assert_same(trunk(batch), cls)
        logits = trunk(batch) @ converted.classifier["weight"].T + converted.classifier["bias"]
        assert_same(logits, head([cls]))


def test_average_pooling_as_its_fine_tuned_mae_has_it():
    model = backbone(out_type="avg_featmap", final_norm=False)
    head = LinearClsHead(num_classes=5, in_channels=192)
    _randomise(head)
    converted = read(below("backbone.", model.state_dict()) | below("head.", head.state_dict()))
    assert converted.pooling == "mean"
    trunk, classifier = load_trunk(converted, "epoch_1.pth"), converted.classifier
    for size in SIZES:
        batch = images(*size)
        pooled = trunk.forward_intermediates(batch)[0][1].mean(1)
        logits = reference.norm(classifier, "norm", pooled) @ classifier["weight"].T
        assert_same(logits + classifier["bias"], head(model(batch)))


def test_bare_backbone_and_leftovers_of_pre_training():
    state = backbone().state_dict()
    assert read(dict(state)).format == "mmpretrain_vit"
    pretraining = below("backbone.", state) | {"neck.decoder_embed.weight": torch.zeros(2, 192)}
    assert read(pretraining).ignored == ["neck.decoder_embed.weight"]


def test_heads_that_follow_mmpretrain_and_not_the_width():
    state = below(
        "backbone.", backbone(arch=ARCH | dict(embed_dims=384, num_heads=12)).state_dict()
    )
    assert read(state).architecture.heads == 6
    moco = state | {"momentum_encoder.module.0.cls_token": torch.zeros(1, 1, 384)}
    assert read(moco).architecture.heads == 12
    small = backbone(arch=ARCH | dict(embed_dims=768, num_layers=8, num_heads=8), patch_size=16)
    converted = read(below("backbone.", small.state_dict()))
    assert converted.architecture.heads == 8
    batch = images(32, 32)
    # In float32 this width's rounding comes near the bound, whoever embeds the patches.
    trunk, batch = load_trunk(converted, "epoch_1.pth").double(), batch.double()
    assert_same(trunk(batch), small.double()(batch)[0])
