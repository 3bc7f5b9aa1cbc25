"""Masked autoencoders: what is dropped, where it returns, and what it is compared with."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import MAEPretrainDecoder

from msn_mm.errors import UserError
from msn_mm.models.methods.mae import MAE
from msn_mm.models.ops.masking import random_keep, restoring_order

BACKBONE = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
BACKBONE |= dict(embed_dim=24, depth=2, num_heads=3, in_chans=2)


def tiny_mae(**changes) -> MAE:
    torch.manual_seed(0)
    config = dict(
        backbone=BACKBONE,
        decoder=dict(
            type="MAEPretrainDecoder", decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2
        ),
        head=dict(
            type="MAEPretrainHead",
            norm_pix=True,
            loss=dict(type="PixelReconstructionLoss", criterion="L2"),
        ),
    )
    return MAE(**copy.deepcopy({**config, **changes}))


def view(batch=4, side=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randn(batch, 2, side, side, generator=g, dtype=torch.float64),
        "key": torch.randint(0, 2**32, (batch,), generator=g),
    }


def patches_of(images):
    """Pixels of 8 x 8 patches, row by row, the channel running fastest."""
    rows = F.unfold(images, 8, stride=8).transpose(1, 2)
    return rows.unflatten(2, (images.shape[1], 64)).transpose(2, 3).flatten(2)


def test_kept_tokens_return_to_their_places_whatever_their_order():
    g = torch.Generator().manual_seed(0)
    places = torch.arange(16).expand(5, -1)
    keep = torch.stack([torch.randperm(16, generator=g)[:6] for _ in range(5)])
    order = restoring_order(keep, 16)
    assert torch.equal(order.sort(dim=1).values, places)
    tokens = torch.cat([keep, torch.full((5, 10), -1)], dim=1)
    back = tokens.gather(1, order)
    kept = torch.zeros(5, 16, dtype=torch.bool).scatter_(1, keep, True)
    assert torch.equal(back[kept], places[kept])
    assert (back[~kept] == -1).all()


def test_the_decoder_gets_each_patch_at_its_place_and_a_mask_token_elsewhere():
    model = tiny_mae().double()
    seen = []
    model.decoder.decoder_blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = view()
    _, predictions, dropped = model.rebuild(data["images"], data["key"])
    assert predictions.shape == (4, 16, 2 * 64)
    assert dropped.sum(1).tolist() == [12.0] * 4
    keep = random_keep(4, 16, 0.75, keys=data["key"])
    assert torch.equal(dropped == 0, torch.zeros(4, 16).scatter(1, keep, 1.0) == 1)
    # By hand, image by image: the trunk on the kept patches alone.
    tokens = (seen[0] - model.decoder.decoder_pos_embed)[:, 1:]
    for row in range(4):
        mine = keep[row : row + 1]
        alone = model.backbone.forward_intermediates(data["images"][row : row + 1], keep=mine)
        wanted = model.decoder.mask_token[0].expand(16, -1).clone()
        wanted[mine[0]] = model.decoder.decoder_embed(alone[0][1][0])
        torch.testing.assert_close(tokens[row], wanted, atol=1e-12, rtol=0)


def test_the_loss_is_the_formula_in_float64():
    model = tiny_mae().double()
    data = view()
    data["images"][0, :, :8, :8] = 0.25  # a patch of one colour has no deviation
    loss = model.loss({"image": data})["loss_mae"]
    _, predictions, _ = model.rebuild(data["images"], data["key"])
    keep = random_keep(4, 16, 0.75, keys=data["key"])
    total, count = 0.0, 0
    for row, pixels in enumerate(patches_of(data["images"])):
        for place in set(range(16)) - set(keep[row].tolist()):
            target = pixels[place]
            deviation = ((target - target.mean()).square().sum() / 127 + 1e-6).sqrt()
            wrong = predictions[row, place] - (target - target.mean()) / deviation
            total, count = total + wrong.square().mean(), count + 1
    assert count == 48
    torch.testing.assert_close(loss, total / count, rtol=1e-12, atol=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    got = torch.autograd.grad(loss, parameters)
    want = torch.autograd.grad(total / count, parameters)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().sum() > 0


def test_what_was_kept_is_not_rebuilt_and_what_was_dropped_is_not_seen():
    model = tiny_mae().double()
    data = view()
    keep = random_keep(4, 16, 0.75, keys=data["key"])
    kept = torch.zeros(4, 16).scatter(1, keep, 1.0).view(4, 1, 4, 4).double()
    cover = F.interpolate(kept, scale_factor=8)
    cls, predictions, _ = model.rebuild(data["images"], data["key"])
    other = data["images"] * cover + 7 * (1 - cover)
    cls_too, predictions_too, _ = model.rebuild(other, data["key"])
    assert torch.equal(cls, cls_too) and torch.equal(predictions, predictions_too)
    # The target of a kept patch does not enter the loss.
    dropped = (kept == 0).double().flatten(1)
    louder = data["images"] + cover * torch.randn(data["images"].shape).double()
    assert torch.equal(
        model.head.loss(predictions, data["images"], dropped),
        model.head.loss(predictions, louder, dropped),
    )


def test_masks_follow_the_keys_alone():
    model = tiny_mae().double()
    data = view()
    whole = model.rebuild(data["images"], data["key"])[2]
    half = model.rebuild(data["images"][2:], data["key"][2:])[2]
    assert torch.equal(whole[2:], half)
    assert not torch.equal(whole[0], whole[1])


def test_positions_are_sine_cosine_and_stay():
    model = tiny_mae()
    positions = model.backbone.vit.pos_embed
    assert not positions.requires_grad
    assert (positions[0, 0] == 0).all()
    cells = positions[0, 1:].view(4, 4, 24)
    # One half of the width holds the row, the other the column.
    halves = cells[..., :12], cells[..., 12:]
    constant = [{d for d in (0, 1) if (half.std(d) < 1e-6).all()} for half in halves]
    assert sorted(map(tuple, constant)) == [(0,), (1,)]
    assert cells[1, 0].sin().isfinite().all()
    assert pytest.approx(cells[1, 1].max().item(), abs=0.16) == 0.84147
    learned = tiny_mae(fixed_positions=False)
    assert learned.backbone.vit.pos_embed.requires_grad
    assert not torch.equal(learned.backbone.vit.pos_embed, positions)
    # mmpretrain's own decoder starts without positions until a runner asks.
    assert MAEPretrainDecoder(4, 4, 1, 8, 8, 1, 1).decoder_pos_embed.abs().sum() == 0
    assert model.decoder.decoder_pos_embed.abs().sum() > 0
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_linear_layers_start_from_xavier():
    model = tiny_mae()
    for layer in (model.backbone.vit.blocks[1].attn.qkv, model.decoder.decoder_pred):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()
    projection = model.backbone.vit.patch_embed.proj.weight
    assert projection.abs().max() <= (6 / (24 + 2 * 64)) ** 0.5


def test_the_trunk_has_the_names_of_any_other_and_represents():
    model = tiny_mae().eval()
    from msn_mm.registry import MODELS

    plain = MODELS.build(copy.deepcopy(BACKBONE))
    assert plain.state_dict().keys() == model.backbone.state_dict().keys()
    images = view()["images"].float()
    features = model(images, mode="tensor")
    assert features.shape == (4, 24)
    cls = model.backbone.forward_intermediates(images, norm=False)[0][0]
    torch.testing.assert_close(features, cls)


def test_diagnostics_and_magnitudes():
    model = tiny_mae()
    data = view()
    data["images"] = data["images"].float()
    model.loss({"image": data})
    assert model.diagnostics["representations"].shape == (4, 24)
    assert not model.diagnostics["representations"].requires_grad
    assert all(value.isfinite() for value in model.magnitudes.values())
    data["images"][1] = float("nan")
    model.loss({"image": data})
    assert not model.magnitudes["the views"].isfinite()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_ratio": 1.0}, "must drop some and leave some"),
        ({"mask_ratio": 0.0}, "must drop some and leave some"),
        ({"backbone": dict(type="PlainResNet")}, "MAE needs type='MaskedViT'"),
        ({"backbone": dict(BACKBONE, img_size=(32, 64))}, "has 4 x 8 patches of 8 x 8 pixels"),
        ({"backbone": dict(BACKBONE, patch_size=(8, 4))}, "has 4 x 8 patches of 8 x 4 pixels"),
        (
            {"backbone": dict(BACKBONE, img_size=(32, 64), patch_size=(8, 16))},
            "has 4 x 4 patches of 8 x 16 pixels",
        ),
        ({"backbone": dict(BACKBONE, embed_dim=27)}, "a width that 4 divides"),
        ({"backbone": dict(BACKBONE, no_embed_class=True)}, r"positions are \(1, 16, 24\)"),
        (
            {"decoder": dict(type="MAEPretrainDecoder", decoder_embed_dim=18, decoder_num_heads=1)},
            r"positions are \(1, 17, 18\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_mae(**changes)


def test_views_of_another_size_or_number_are_refused():
    model = tiny_mae().double()
    with pytest.raises(UserError, match="views of 32 x 32 pixels, and these have 40 x 40"):
        model.loss({"image": view(side=40)})
    with pytest.raises(UserError, match=r"one group of views; the data gives \['a', 'b'\]"):
        model.loss({"b": view(), "a": view()})
