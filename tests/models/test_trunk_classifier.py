"""A trunk under a head: what it reads, its loss, and its layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from msn_mm.errors import UserError
from msn_mm.registry import MODELS

BACKBONE = dict(
    type="MaskedViT",
    name="vit_tiny_patch16_224",
    img_size=32,
    patch_size=8,
    in_chans=1,
    embed_dim=24,
    depth=3,
    num_heads=3,
)
LOSS = dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original")


def classifier(backbone=BACKBONE, **head):
    torch.manual_seed(0)
    head = dict(type="LinearClsHead", num_classes=5, loss=LOSS) | head
    return MODELS.build(dict(type="TrunkClassifier", backbone=backbone, head=head))


def batch(n: int = 6):
    torch.manual_seed(1)
    samples = {"label": torch.arange(n) % 5, "key": torch.arange(n)}
    return torch.randn(n, 1, 32, 32), samples


def test_it_reads_the_class_token_after_the_norm():
    model = classifier().eval()
    images, _ = batch()
    cls = model.backbone.forward_intermediates(images, blocks=1, norm=True)[0][0]
    expected = cls @ model.head.fc.weight.T + model.head.fc.bias
    assert torch.allclose(model(images), expected, atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_is_torch_s_smoothed_cross_entropy(mixed):
    model = classifier()
    images, samples = batch()
    target = samples["label"]
    if mixed:
        target = samples["score"] = torch.rand(6, 5).softmax(dim=1)
    loss = model(images, samples, mode="loss")["loss"]
    expected = F.cross_entropy(model(images), target, label_smoothing=0.1)
    assert torch.allclose(loss, expected, atol=1e-6)


def test_predictions_are_what_metrics_read():
    from mmpretrain.evaluation import Accuracy

    model = classifier().eval()
    images, samples = batch()
    told = model(images, samples, mode="predict")
    logits = model(images)
    assert torch.allclose(torch.stack([t["pred_score"] for t in told]), logits.softmax(1))
    metric = Accuracy(topk=(1,))
    metric.process(None, told)
    right = (logits.argmax(1) == samples["label"]).float().mean() * 100
    assert metric.evaluate(6)["accuracy/top1"] == pytest.approx(right.item())


def test_stochastic_depth_follows_the_keys():
    model = classifier({**BACKBONE, "drop_path_rate": 0.5}).train()
    images, samples = batch()
    one, same = (model(images, samples, mode="loss")["loss"] for _ in range(2))
    other = model(images, {**samples, "key": samples["key"] + 7}, mode="loss")["loss"]
    assert one == same and one != other


def test_another_backbone_is_pooled():
    backbone = dict(type="mmpretrain.ResNet", depth=18)
    model = classifier(backbone, in_channels=512).eval()
    images = torch.randn(2, 3, 64, 64)
    pooled = model.backbone(images)[-1].mean((2, 3))
    assert torch.allclose(model(images), model.head((pooled,)), atol=1e-5)
    with pytest.raises(UserError, match="ResNet does not tell its layers"):
        model.get_layer_depth("backbone.conv1.weight")
    with pytest.raises(UserError, match=r"set model\.head\.in_channels"):
        classifier(backbone)


def test_mistakes_are_told():
    with pytest.raises(UserError, match="in_channels is 7 and the backbone's width 24"):
        classifier(in_channels=7)
    model, (images, samples) = classifier(), batch()
    with pytest.raises(ValueError, match="mode must be"):
        model(images, samples, mode="los")
    with pytest.raises(ValueError, match="needs labels"):
        model(images, mode="loss")


def test_layers_are_counted_from_the_patches_to_the_head():
    model = classifier()
    layers = {name: model.get_layer_depth(name) for name, _ in model.named_parameters()}
    assert {n for _, n in layers.values()} == {5}
    assert layers["backbone.vit.cls_token"][0] == layers["backbone.vit.pos_embed"][0] == 0
    assert layers["backbone.vit.patch_embed.proj.weight"][0] == 0
    assert [layers[f"backbone.vit.blocks.{i}.mlp.fc1.weight"][0] for i in range(3)] == [1, 2, 3]
    assert layers["backbone.vit.norm.weight"][0] == layers["head.fc.bias"][0] == 4
