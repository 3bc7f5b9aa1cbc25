"""iBOT: the loss against its definition, masked patches, the mask token."""

from __future__ import annotations

import copy

import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.models.losses.ibot_loss import IBOTLoss, patch_loss
from msn_mm.models.methods.base import ViewUse
from msn_mm.models.methods.ibot import IBOT
from msn_mm.models.ops.block_masking import block_masks
from tests.models.test_dino import BACKBONE, by_definition, dino_views


def tiny_ibot(**changes) -> IBOT:
    torch.manual_seed(0)
    config = dict(
        backbone=BACKBONE,
        head=dict(type="DINOHead", hidden_dim=32, bottleneck_dim=16, output_dim=12),
        loss=dict(type="IBOTLoss"),
        mask=dict(probability=0.8),
    )
    return IBOT(**copy.deepcopy({**config, **changes}))


def patches_by_definition(predictions, targets, masks, centre, tau, tau_target):
    """``(T * B, N, K)`` logits of all patches; a loop over views, images and patches."""
    total = torch.zeros((), dtype=torch.float64)
    for image in range(len(masks)):
        own = []
        for patch in masks[image].nonzero().flatten():
            p = torch.exp((targets[image, patch] - centre) / tau_target)
            q = torch.exp(predictions[image, patch] / tau)
            own.append(-((p / p.sum()).detach() * (q / q.sum()).log()).sum())
        total = total + (sum(own) / len(own) if own else 0.0)
    return total / len(masks)


def test_patch_loss_and_gradients_are_the_definition_s():
    g = torch.Generator().manual_seed(1)
    masks = torch.rand(5, 6, generator=g) < torch.tensor([0.2, 0.9, 0.0, 0.5, 0.5])[:, None]
    assert not masks[2].any()
    logits, targets = (torch.randn(5, 6, 7, generator=g, dtype=torch.float64) for _ in range(2))
    centre = torch.randn(7, generator=g, dtype=torch.float64)
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    got = patch_loss(
        mine[masks],
        targets[masks],
        masks,
        centre=centre,
        temperature=0.3,
        target_temperature=0.2,
    )
    want = patches_by_definition(theirs, targets, masks, centre, 0.3, 0.2)
    assert got.item() == pytest.approx(want.item(), abs=1e-12)
    (one,), (other,) = torch.autograd.grad(got, mine), torch.autograd.grad(want, theirs)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_no_masked_patch_is_no_loss():
    empty = torch.zeros(0, 7, requires_grad=True)
    loss = patch_loss(empty, empty, torch.zeros(4, 6, dtype=torch.bool), centre=torch.zeros(7))
    loss.backward()
    assert loss.item() == 0


def test_losses_of_the_model_are_the_definition_on_its_networks():
    loss = dict(type="IBOTLoss", target_temperature=0.05, patch_target_temperature=0.06)
    model = tiny_ibot(loss={**loss, "patch_weight": 0.5}).double().eval()
    module = model.loss_module
    with torch.no_grad():
        module.centre.value.copy_(torch.linspace(-0.2, 0.2, 12))
        module.patch_centre.value.copy_(torch.linspace(0.1, -0.3, 12))
        model.mask_token.copy_(torch.linspace(-1, 1, 24)[None])
        for parameter in model.target_head.parameters():
            parameter.mul_(1.3)
    views = dino_views()
    for view in views.values():
        view["images"] = view["images"].double()
    got = model.loss(views)

    whole = [views["global_1"], views["global_2"]]
    images = torch.cat([view["images"] for view in whole])
    masks = block_masks(torch.cat([v["key"] for v in whole]), (4, 4), probability=0.8)
    assert masks.any(1).sum() not in (0, 8)
    # The trunk by hand: patches, mask token, CLS, positions, blocks, norm.
    vit = model.backbone.vit
    tokens = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
    tokens = torch.stack(
        [torch.where(m[:, None], model.mask_token, x) for m, x in zip(masks, tokens, strict=True)]
    )
    tokens = torch.cat([vit.cls_token.expand(8, -1, -1), tokens], 1) + vit.pos_embed
    tokens = vit.norm(vit.blocks(tokens))
    seen = model.target_backbone.forward_intermediates(images)[0]
    predictions = list(model.head(tokens[:, 0]).split(4))
    predictions += [model.head(model.backbone(x)) for x in views["local"]["images"].split(4)]
    want = by_definition(predictions, model.target_head(seen[0]), module.centre.value, 0.1, 0.05)
    want_patches = patches_by_definition(
        model.head(tokens[:, 1:]),
        model.target_head(seen[1]),
        masks,
        module.patch_centre.value,
        0.1,
        0.06,
    )
    assert got["loss_cls"].item() == pytest.approx(want.item(), abs=1e-10)
    assert got["loss_patch"].item() == pytest.approx(0.5 * want_patches.item(), abs=1e-10)
    assert got["masked"].item() == pytest.approx(masks.float().mean().item())


def test_centres_see_cls_and_all_patches_of_the_whole_views():
    model = tiny_ibot().double().train()
    views = dino_views()
    for view in views.values():
        view["images"] = view["images"].double()
    model.loss(views)
    assert len(model.centres()) == 2
    for centre in model.centres():
        centre.step()
    images = torch.cat([views["global_1"]["images"], views["global_2"]["images"]])
    cls, patches = model.target_backbone.forward_intermediates(images)[0]
    with torch.no_grad():
        want = 0.1 * model.target_head(cls).mean(0)
        want_patches = 0.1 * model.target_head(patches).mean((0, 1))
    torch.testing.assert_close(model.loss_module.centre.value, want)
    torch.testing.assert_close(model.loss_module.patch_centre.value, want_patches)


def test_gradients_reach_the_mask_token_and_the_trunk_is_any_other_s():
    model = tiny_ibot().train()
    losses = model.loss(dino_views())
    (losses["loss_cls"] + losses["loss_patch"]).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    from tests.models.test_dino import tiny_dino

    assert model.backbone.state_dict().keys() == tiny_dino().backbone.state_dict().keys()


def test_a_batch_without_masks_still_gives_every_parameter_a_gradient():
    model = tiny_ibot(mask=dict(probability=0.0)).train()
    losses = model.loss(dino_views())
    assert losses["loss_patch"].item() == 0
    (losses["loss_cls"] + losses["loss_patch"]).backward()
    assert model.mask_token.grad is not None and not model.mask_token.grad.any()


@pytest.mark.parametrize("count", [0, 1])
def test_batch_norm_in_the_head_bears_few_masked_patches(count, monkeypatch):
    """CLS tokens and masked patches are one batch of the head."""
    masks = torch.zeros(8, 16, dtype=torch.bool)
    masks[3, :count] = True
    monkeypatch.setattr("msn_mm.models.methods.ibot.block_masks", lambda *_, **__: masks)
    head = dict(type="DINOHead", hidden_dim=8, bottleneck_dim=4, output_dim=6, batch_norm=True)
    model = tiny_ibot(head=head).train()
    rows = []
    model.head.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    losses = model.loss(dino_views())
    (losses["loss_cls"] + losses["loss_patch"]).backward()
    assert rows[0] == 8 + count and (losses["loss_patch"] > 0) == (count > 0)
    for name, value in [*model.named_buffers(), *model.named_parameters()]:
        assert value.isfinite().all() and (value.grad is None or value.grad.isfinite().all()), name


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match=r"model\.mask is .*must lie in"):
        tiny_ibot(mask=dict(ratio=0.9))
    with pytest.raises(UserError, match=r"model\.mask is .*'share'"):
        tiny_ibot(mask=dict(share=0.9))
    with pytest.raises(ValueError, match="must not be negative"):
        IBOTLoss(8, patch_weight=-1.0)
    with pytest.raises(ValueError, match="patch_target_temperature"):
        IBOTLoss(8, patch_target_temperature=0.2)


def test_use_of_views_counts_patches_of_the_heads():
    model = tiny_ibot(mask=dict(ratio=0.4, variation=0.1, probability=0.5))
    use = model.view_use("global_1")
    assert (use.trained, use.target) == (True, True)
    assert (use.head_patches, use.target_head_patches) == (pytest.approx(0.2), 1.0)
    assert use.all_tokens
    assert model.view_use("local") == ViewUse(trained=True)


def test_losses_under_autocast_are_close_and_in_full_precision():
    model, views = tiny_ibot().eval(), dino_views()
    want = model.loss(views)
    with torch.autocast("cpu", torch.bfloat16):
        got = model.loss(views)
    for name in ("loss_cls", "loss_patch"):
        assert got[name].dtype == torch.float32
        assert got[name].item() == pytest.approx(want[name].item(), rel=0.02)
