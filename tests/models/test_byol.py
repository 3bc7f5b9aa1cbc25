"""BYOL against equation 2 of its paper, written out."""

from __future__ import annotations

import pytest
import torch

from msn_mm.models.ops.ema import ema_update_
from tests.models.two_view_methods import BYOL_NECK, pair, tiny_byol


def mlp(neck, x):
    x = neck.fc0(x)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() * neck.bn0.weight + neck.bn0.bias
    return neck.fc1(torch.relu(x))


def moved(model):
    """The moving average somewhere else than the network, as in the midst of a training."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, target in model.ema_pairs():
            for p in target.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return model.double().train()


def test_loss_and_gradients_are_the_paper_s():
    model, again = moved(tiny_byol()), moved(tiny_byol())
    batch = pair()
    loss = model.loss(batch)["loss_byol"]
    loss.backward()
    one, two = (view["images"] for view in batch.values())
    expected = torch.zeros((), dtype=torch.float64)
    for view, other in ((one, two), (two, one)):
        q = mlp(again.head.predictor, mlp(again.neck, again.backbone(view)))
        with torch.no_grad():
            z = mlp(again.momentum_neck, again.momentum_backbone(other))
        q, z = q / q.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)
        expected = expected + (q - z).square().sum(1).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    for (name, p), (_, q) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        if name.startswith("momentum_"):
            assert p.grad is None and not p.requires_grad, name
        else:
            assert p.grad.abs().sum() > 0, name
            assert torch.allclose(p.grad, q.grad, atol=1e-10), name


def test_the_moving_average_starts_equal_and_follows():
    model = tiny_byol()
    for source, target in model.ema_pairs():
        pairs = list(zip(source.parameters(), target.parameters(), strict=True))
        assert all(torch.equal(p, q) and p.data_ptr() != q.data_ptr() for p, q in pairs)
        with torch.no_grad():
            source.conv1.weight.add_(1) if hasattr(source, "conv1") else source.fc0.weight.add_(1)
        ema_update_([q for _, q in pairs], [p.detach() for p, _ in pairs], 0.75)
        change = max((p - q).abs().max().item() for p, q in pairs)
        assert change == pytest.approx(0.75)


def test_the_moving_average_starts_equal_where_the_config_says_how():
    start = [dict(type="TruncNormal", std=0.02, layer=["Linear"])]
    model = tiny_byol(neck=dict(BYOL_NECK, init_cfg=start))
    before = model.neck.fc0.weight.clone()
    model.init_weights()
    assert not torch.equal(model.neck.fc0.weight, before)
    for source, target in model.ema_pairs():
        pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)


def test_each_view_is_a_batch_of_its_own_and_each_network_keeps_its_statistics():
    model = moved(tiny_byol())
    model.loss(pair())
    assert model.backbone.bn1.num_batches_tracked == 2
    assert model.momentum_backbone.bn1.num_batches_tracked == 2
    assert not torch.allclose(
        model.backbone.bn1.running_mean, model.momentum_backbone.bn1.running_mean
    )


def test_features_are_the_trained_network_s():
    model = moved(tiny_byol()).eval()
    images = pair()["one"]["images"]
    assert torch.equal(model(images), model.backbone(images))
    assert not torch.allclose(model(images), model.momentum_backbone(images))
