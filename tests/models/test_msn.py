"""The assembled method: batches, networks, targets, statistics."""

from __future__ import annotations

import copy

import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.models.losses.msn_loss import MSNLoss
from msn_mm.models.methods.msn import MSN
from msn_mm.models.ops.statistics import (
    batch_statistics,
    feature_std,
    prototypes_in_use,
    rank_me,
)
from msn_mm.registry import MODELS

BACKBONE = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
BACKBONE |= dict(embed_dim=24, depth=2, num_heads=3)


def tiny_msn(**changes) -> MSN:
    torch.manual_seed(0)
    config = dict(
        backbone=BACKBONE,
        head=dict(type="MSNHead", hidden_dim=32, output_dim=16, num_prototypes=8),
        loss=dict(type="MSNLoss"),
        mask_ratio=dict(anchor=0.5),
    )
    return MSN(**copy.deepcopy({**config, **changes}))


def views(batch=4, focal=2, seed=0):
    g = torch.Generator().manual_seed(seed)

    def group(n, side):
        return {
            "images": torch.randn(n * batch, 3, side, side, generator=g),
            "key": torch.randint(0, 2**32, (n * batch,), generator=g),
        }

    return {"target": group(1, 32), "anchor": group(1, 32), "focal": group(focal, 16)}


def test_gradients_reach_the_anchor_network_and_the_prototypes_only():
    model = tiny_msn().train()
    losses = model.loss(views())
    assert set(losses) >= {"loss_msn", "loss_me_max"}
    (losses["loss_msn"] + losses["loss_me_max"]).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


class OwnForward(MSNLoss):
    def forward(self, anchors, targets, prototypes):
        return {"loss": anchors.sum()}


class OwnTerms(OwnForward):
    def terms(self, anchors, targets, prototypes):
        terms = super().terms(anchors, targets, prototypes)
        return terms._replace(cross_entropy=7 * terms.cross_entropy)


class OwnPrior(OwnForward):
    def log_prior(self, prototypes):
        return super().log_prior(prototypes)


class CompiledTerms(MSNLoss):
    def __init__(self):
        super().__init__()
        self.terms = super().terms


def test_a_loss_is_called_as_it_is_or_refused(monkeypatch):
    for kind in (OwnForward, OwnTerms, OwnPrior, CompiledTerms, torch.nn.Identity):
        monkeypatch.setitem(MODELS.module_dict, kind.__name__, kind)
    plain = tiny_msn().train().loss(views())
    own = tiny_msn(loss=dict(type="OwnTerms")).train().loss(views())
    assert own["loss_msn"].item() == pytest.approx(7 * plain["loss_msn"].item())
    for kind in ("OwnPrior", "CompiledTerms"):
        same = tiny_msn(loss=dict(type=kind)).train().loss(views())
        assert same["loss_msn"].item() == plain["loss_msn"].item()
    with pytest.raises(UserError, match=r"OwnForward overrides forward\(\), which MSN does not"):
        tiny_msn(loss=dict(type="OwnForward"))
    with pytest.raises(UserError, match=r"Identity has no terms\(\); MSN trains by terms\(\) and"):
        tiny_msn(loss=dict(type="Identity"))


@pytest.mark.parametrize("ratio", [0.3, {"anchor": "abc"}, {"anchor": 1.0}])
def test_a_mask_ratio_is_told_in_one_line(ratio):
    with pytest.raises(UserError, match=r"^model\.mask_ratio(\.anchor)? is "):
        tiny_msn(mask_ratio=ratio)


def test_target_starts_as_a_copy_without_prototypes():
    model = tiny_msn()
    for source, target in model.ema_pairs():
        for (name, a), (other, b) in zip(
            source.named_parameters(), target.named_parameters(), strict=True
        ):
            assert name == other and torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()
    assert not any(
        "prototypes" in n for n, _ in model.named_parameters() if n.startswith("target_")
    )


def test_only_the_named_views_are_masked():
    model = tiny_msn().train()
    seen = []
    for network in (model.backbone, model.target_backbone):
        network.vit.blocks[0].register_forward_pre_hook(
            lambda _, args: seen.append(tuple(args[0].shape[:2]))
        )
    model.loss(views())
    assert seen == [(4, 17), (4, 9), (8, 5)], "target whole, anchor half, focal whole"


def test_target_batch_norm_keeps_statistics_of_its_own():
    model = tiny_msn().train()
    for seed in range(3):
        model.loss(views(seed=seed))
    own = model.head.projector[1]
    target = model.target_head.projector[1]
    assert own.num_batches_tracked == 6, "once for each view group"
    assert target.num_batches_tracked == 3
    assert not torch.allclose(own.running_mean, target.running_mean)


def test_features_are_the_target_trunk_before_the_final_norm():
    model = tiny_msn().eval()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
    images = torch.randn(3, 3, 32, 32)
    features = model(images)
    assert features.shape == (3, 24)
    normed = model.target_backbone.vit.norm(features)
    assert torch.allclose(normed, model.target_backbone(images), atol=1e-5)
    rows = model(
        images, {"label": torch.tensor([1, 2, 3]), "support": torch.tensor([1, 0, 1])}, "predict"
    )
    assert [(r["label"], r["support"]) for r in rows] == [(1, True), (2, False), (3, True)]
    assert torch.equal(torch.stack([r["feature"] for r in rows]), features)


def test_shared_mask_is_one_for_the_batch():
    kept = {}
    for shared in (False, True):
        model = tiny_msn(shared_mask=shared).train()
        embed = model.backbone._embed

        def spy(images, ratio, keep, keys, embed=embed, shared=shared):
            if keep is not None:
                kept[shared] = keep
            return embed(images, ratio, keep, keys)

        model.backbone._embed = spy
        model.loss(views())
    assert kept[False].shape == kept[True].shape == (4, 8)
    assert len({tuple(row) for row in kept[False].tolist()}) == 4, "one an image"
    assert (kept[True] == kept[True][0]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(backbone=dict(type="mmpretrain.ResNet", depth=18)), "cannot drop tokens"),
        (dict(head=dict(type="MSNHead", in_dim=99)), "in_dim is 99 and the backbone's width is 24"),
        (dict(mask_ratio=dict(target=0.5)), "target is not masked"),
        (dict(mask_ratio=dict(anchor=1.0)), r"must lie in \[0, 1\)"),
    ],
)
def test_a_wrong_swap_says_so_in_one_line(changes, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        tiny_msn(**changes)
    assert "\n" not in str(caught.value)


def test_missing_views_say_so():
    batch = views()
    del batch["target"]
    with pytest.raises(UserError, match="a view named 'target'"):
        tiny_msn().loss(batch)


def test_statistics_of_known_cases():
    torch.manual_seed(0)
    basis = torch.eye(16).repeat(4, 1)
    assert rank_me(basis) == pytest.approx(16, rel=0.01)
    one = torch.randn(1, 16).expand(64, 16)
    assert rank_me(one) == pytest.approx(1, abs=0.01)
    assert feature_std(one) == pytest.approx(0, abs=1e-6)
    assert feature_std(torch.randn(4096, 64)) == pytest.approx(1, rel=0.02)
    assert prototypes_in_use(torch.tensor([0.5, 0.49, 0.01, 0.0])) == 2
    stats = batch_statistics(
        torch.tensor(2.0), torch.full((8,), 1 / 8).log(), torch.eye(8)[:3] * 0.5 + 0.0625
    )
    assert stats["mean_entropy"].item() == pytest.approx(1)
    assert stats["ce_over_ln_k"].item() == pytest.approx(2 / torch.tensor(8.0).log().item())
    assert stats["target_confidence"].item() == pytest.approx(0.5625)
