"""MoCo v3 against equation 1 of its paper, written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.models.losses.momentum_contrast import contrast_logits
from msn_mm.models.methods.mocov3 import MoCoV3
from tests.models.test_mae import BACKBONE as VIT
from tests.models.two_view_methods import BACKBONE as RESNET
from tests.models.two_view_methods import pair

BACKBONE = dict(VIT, img_size=12, patch_size=4, in_chans=3)
NECK = dict(
    type="NonLinearNeck",
    hid_channels=16,
    out_channels=6,
    num_layers=3,
    with_last_bn_affine=False,
    with_avg_pool=False,
    norm_cfg=dict(type="SyncBatchNorm"),
)
HEAD = dict(
    type="MoCoV3Head",
    predictor=dict(NECK, num_layers=2),
    loss=dict(type="CrossEntropyLoss", loss_weight=0.4),
    temperature=0.2,
)


def tiny_mocov3(**changes) -> MoCoV3:
    torch.manual_seed(0)
    return MoCoV3(**copy.deepcopy({**dict(backbone=BACKBONE, neck=NECK, head=HEAD), **changes}))


def moved() -> MoCoV3:
    """The moving average somewhere else than the network, as in the midst of a training."""
    model = tiny_mocov3()
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, target in model.ema_pairs():
            for p in target.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=g))
    return model.double().train()


def mlp(neck, x, layers):
    for k in range(layers):
        x = getattr(neck, f"fc{k}")(x)
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        norm = getattr(neck, f"bn{k}")
        x = x if norm.weight is None else torch.relu(x * norm.weight + norm.bias)
    return x


def test_loss_and_gradients_are_the_paper_s():
    model, again = moved(), moved()
    batch = pair()
    losses = model.loss(batch)
    losses["loss_mocov3"].backward()
    one, two = (view["images"] for view in batch.values())
    expected, found = torch.zeros((), dtype=torch.float64), 0
    for view, other in ((one, two), (two, one)):
        q = mlp(again.head.predictor, mlp(again.neck, again.backbone(view), 3), 2)
        with torch.no_grad():
            k = mlp(again.momentum_neck, again.momentum_backbone(other), 3)
        for i in range(4):
            cosines = [torch.dot(q[i], k[j]) / (q[i].norm() * k[j].norm()) for j in range(4)]
            scores = [math.e ** (c / 0.2) for c in cosines]
            expected = expected - 2 * 0.2 * (scores[i] / sum(scores)).log() / 4
            found += cosines[i] == max(cosines)
    expected.backward()
    assert losses["loss_mocov3"].item() == pytest.approx(expected.item(), abs=1e-12)
    assert losses["contrast_accuracy"].item() == pytest.approx(found / 8)
    fixed = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {n for n in fixed if not n.startswith("momentum_")} == {
        "backbone.vit.pos_embed",
        "backbone.vit.patch_embed.proj.weight",
        "backbone.vit.patch_embed.proj.bias",
    }
    for (name, p), (_, q) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        if name in fixed:
            assert p.grad is None, name
        else:
            assert p.grad.abs().sum() > 0, name
            assert torch.allclose(p.grad, q.grad, atol=1e-10), name


def test_length_does_not_count_and_targets_get_no_gradient():
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(5, 3, generator=g, dtype=torch.float64).requires_grad_() for _ in "qk")
    logits, own = contrast_logits(q, k, 0.2)
    longer, _ = contrast_logits(7 * q, k * torch.arange(1, 6)[:, None], 0.2)
    assert torch.allclose(logits, longer) and own.tolist() == [0, 1, 2, 3, 4]
    assert logits.abs().max() <= 5
    logits.sum().backward()
    assert k.grad is None and q.grad is not None
    with pytest.raises(ValueError, match=r"\(5, 3\) and targets \(4, 3\)"):
        contrast_logits(q, k[:4], 0.2)


def test_the_moving_average_starts_as_the_network_does():
    model = tiny_mocov3()
    for source, target in model.ema_pairs():
        for (name, p), q in zip(source.named_parameters(), target.parameters(), strict=True):
            assert torch.equal(p, q) and p.data_ptr() != q.data_ptr(), name
    assert not any(p.requires_grad for p in model.momentum_backbone.parameters())


def test_stochastic_depth_is_the_trained_network_s_alone():
    model = tiny_mocov3(backbone={**BACKBONE, "drop_path_rate": 0.5}).train()
    view = pair(batch=8)["one"]
    images, keys = view["images"].float(), view["key"]
    target, own = (
        torch.stack([net.train()(images, keys=keys), net.eval()(images, keys=keys)])
        for net in (model.momentum_backbone, model.backbone)
    )
    assert torch.equal(target[0], target[1]) and not torch.allclose(own[0], own[1])
    assert torch.equal(target[1], own[1])


def test_a_vit_starts_as_published():
    vit = tiny_mocov3().backbone.vit
    # Query, key and value are three layers of 24 x 24.
    bound = (6 / 48) ** 0.5
    assert 0.97 * bound < vit.blocks[0].attn.qkv.weight.abs().max() <= bound
    bound = (6 / (24 + 3 * 4 * 4)) ** 0.5
    assert 0.97 * bound < vit.patch_embed.proj.weight.abs().max() <= bound
    assert vit.cls_token.abs().max() < 1e-5
    free = tiny_mocov3(fixed_patches=False, fixed_positions=False).backbone.vit
    assert free.pos_embed.requires_grad and free.patch_embed.proj.weight.requires_grad


def test_features_are_the_trained_network_s():
    model = moved().eval()
    images = pair()["one"]["images"]
    expected = model.backbone.forward_intermediates(images, norm=False)[0][0]
    torch.testing.assert_close(model(images), expected)


def test_a_resnet_has_nothing_to_keep_fixed():
    with pytest.raises(UserError, match="PlainResNet has no patches to keep fixed"):
        tiny_mocov3(backbone=RESNET)
    model = tiny_mocov3(backbone=RESNET, fixed_patches=False, fixed_positions=False)
    assert (
        model.float()
        .loss({k: dict(v, images=v["images"].float()) for k, v in pair().items()})["loss_mocov3"]
        .isfinite()
    )
