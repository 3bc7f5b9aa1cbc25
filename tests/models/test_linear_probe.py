"""Linear heads on a frozen trunk: what they read, what they learn, and that nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.frozen_trunk import trunk_digest
from msn_mm.models.heads.linear_heads import (
    PAPER,
    RELEASED,
    Head,
    LinearHeads,
    head_grid,
    hits,
    parse_feature,
)
from msn_mm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

TRUNK = dict(type="MaskedViT", img_size=32, patch_size=8, in_chans=1)
TRUNK |= dict(embed_dim=24, depth=4, num_heads=3)
ENCODER = dict(model=TRUNK, data_preprocessor=dict(mean=[78.0], std=[90.0]))
LR, MOMENTUM = 0.5, 0.9


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


def probe(**settings: Any) -> Any:
    torch.manual_seed(1)
    return MODELS.build(
        dict(type="LinearProbe", encoder=ENCODER, num_classes=10, image_size=32, **settings)
    )


def batch(count: int = 12, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 32, 32), generator=generator, dtype=torch.uint8)
    return images, {"label": torch.randint(0, 10, (count,), generator=generator)}


def tokens(model: Any, images: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
    inputs = (images.float() - 78.0) / 90.0
    with torch.no_grad():
        return model.encoder.trunk.forward_intermediates(inputs, blocks=blocks, norm=False)


def test_the_grid_holds_the_two_settings_first_and_nothing_twice() -> None:
    grid = head_grid(["cls1", "cls4+avg"], [0.3, 1.0], [False, True])
    assert grid[:2] == [PAPER, RELEASED] and len(grid) == len(set(grid)) == 8
    assert Head(1, False, False, 1.0) == PAPER and Head(1, False, True, 1.0) == RELEASED
    assert [head.name for head in grid[2:4]] == ["cls1 lr x0.3", "cls4+avg lr x0.3"]
    assert parse_feature("cls12+avg") == (12, True)
    for wrong in ("cls0", "cls", "patch", "cls1+max"):
        with pytest.raises(ValueError, match="cls4"):
            parse_feature(wrong)
    with pytest.raises(ValueError, match="above 0"):
        head_grid(["cls1"], [0.0])


def test_every_head_reads_what_it_says() -> None:
    model = probe(layer_norms=(False, True), lr_scales=(1.0,))
    images, _ = batch()
    found = dict(zip(model.head_names, model(images), strict=True))
    last = tokens(model, images, 4)
    average = last[-1][1].mean(1)
    vectors = {
        "cls1": last[-1][0],
        "cls4": torch.cat([cls for cls, _ in last], 1),
        "cls1+avg": torch.cat([last[-1][0], average], 1),
        "cls4+avg": torch.cat([*(cls for cls, _ in last), average], 1),
    }
    assert len(found) == 8
    for index, (name, logits) in enumerate(found.items()):
        rows = vectors[name.split()[0]]
        if " ln" in name:
            rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, correction=0, keepdim=True)
        rows = rows / rows.pow(2).sum(1, keepdim=True).sqrt()
        linear = model.heads.linears[index]
        torch.testing.assert_close(logits, rows @ linear.weight.T, atol=2e-5, rtol=1e-4)
        assert linear.bias.abs().max() == 0
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.2)


def optimizer_of(model: Any) -> Any:
    build = OPTIM_WRAPPER_CONSTRUCTORS.get("LinearHeadGroupsConstructor")
    optimizer = dict(type="SGD", lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=0.0)
    return build(dict(type="GroupOptimWrapper", optimizer=optimizer))(model)


def sample(seed: int, count: int = 12) -> dict[str, Any]:
    images, labels = batch(count, seed)
    return {"inputs": images, "data_samples": labels}


def test_each_head_learns_as_if_it_were_alone() -> None:
    """Three steps against Nesterov's formula on gradients written out by hand."""
    model = probe(features=("cls1", "cls4+avg"), lr_scales=(0.1, 1.0))
    start = [linear.weight.detach().clone() for linear in model.heads.linears]
    wrapper = optimizer_of(model)
    assert {g["name"]: g["lr"] for g in wrapper.optimizer.param_groups} == {
        "lr x1": LR,
        "lr x0.1": LR * 0.1,
    }
    for seed in range(3):
        model.train_step(sample(seed), wrapper)
    for index, head in enumerate(model.heads.heads):
        if head.layer_norm:
            continue
        weight, bias = start[index].clone(), torch.zeros(10)
        moment, moment_bias = torch.zeros_like(weight), torch.zeros(10)
        for seed in range(3):
            images, samples = batch(seed=seed)
            last = tokens(model, images, head.blocks)
            parts = [cls for cls, _ in last]
            parts += [last[-1][1].mean(1)] if head.average else []
            rows = F.normalize(torch.cat(parts, 1), dim=1)
            wrong = (rows @ weight.T + bias).softmax(1)
            wrong[torch.arange(12), samples["label"]] -= 1
            gradient, gradient_bias = wrong.T @ rows / 12, wrong.mean(0)
            moment = MOMENTUM * moment + gradient
            moment_bias = MOMENTUM * moment_bias + gradient_bias
            rate = LR * head.lr_scale
            weight -= rate * (gradient + MOMENTUM * moment)
            bias -= rate * (gradient_bias + MOMENTUM * moment_bias)
        linear = model.heads.linears[index]
        torch.testing.assert_close(linear.weight, weight, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(linear.bias, bias, atol=1e-6, rtol=1e-4)


def test_a_batch_in_parts_is_the_same_training() -> None:
    images, samples = batch(16)
    model = probe()
    whole = model(images, samples, mode="loss")["loss"]
    whole.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for part in range(4):
        rows = slice(4 * part, 4 * part + 4)
        loss = model(images[rows], {"label": samples["label"][rows]}, mode="loss")["loss"]
        (loss / 4).backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-7, rtol=1e-4)
    assert type(model).couples_images is False


@pytest.mark.parametrize("amp", [False, True])
def test_the_trunk_computes_in_inference_mode_and_in_half_precision_where_asked(amp: bool) -> None:
    model, seen = probe(amp=amp, features=("cls1",)), []
    model.encoder.trunk.vit.blocks[0].mlp.fc1.register_forward_hook(
        lambda *given: seen.append((torch.is_inference_mode_enabled(), given[-1].dtype))
    )
    images, samples = batch()
    model(images, samples, mode="loss")["loss"].backward()
    assert seen == [(True, torch.bfloat16 if amp else torch.float32)]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_the_trunk_stays_and_is_no_part_of_the_state() -> None:
    model = probe()
    trunk = model.encoder.trunk
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    wrapper = optimizer_of(model)
    model.train()
    model.train_step(sample(0), wrapper)
    assert all(torch.equal(before[name], value) for name, value in trunk.state_dict().items())
    assert not trunk.training and not any(p.requires_grad for p in trunk.parameters())
    names = set(model.state_dict())
    assert "trunk_digest" in names
    assert all(name.startswith("heads.") for name in names - {"trunk_digest", "head_list"})
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for group in wrapper.optimizer.param_groups for p in group["params"]
    )


def test_heads_go_on_with_no_other_trunk() -> None:
    model = probe()
    state = model.state_dict()
    probe().load_state_dict(state)
    other = probe()
    with torch.no_grad():
        other.encoder.trunk.vit.norm.bias[0] = 1.0
    other.trunk_digest = trunk_digest(other.encoder.trunk)
    with pytest.raises(UserError, match="another trunk"):
        other.load_state_dict(state)


def test_predictions_tell_which_heads_are_right() -> None:
    model = probe(lr_scales=(1.0,))
    images, samples = batch(20)
    found = model(images, {**samples, "support": torch.arange(20) < 5}, mode="predict")
    logits = model(images)
    for row, one in enumerate(found):
        assert one["heads"] == model.head_names and one["support"] == (row < 5)
        for h, answers in enumerate(logits):
            order = answers[row].argsort(descending=True).tolist()
            label = int(samples["label"][row])
            assert one["hits"][h].tolist() == [order[0] == label, label in order[:5]]
    few = [torch.eye(5)]
    assert hits(few, torch.arange(5)).shape == (5, 1, 1) and hits(few, torch.arange(5)).all()


def test_a_trunk_without_blocks_gives_its_one_output() -> None:
    pixels = dict(model=dict(type="RawPixels", in_channels=1))
    pixels["data_preprocessor"] = dict(mean=[0.0], std=[1.0])
    settings = dict(type="LinearProbe", encoder=pixels, num_classes=10, image_size=32)
    model = MODELS.build({**settings, "features": ["cls1"]})
    images, _ = batch()
    rows = F.normalize(images.flatten(1).float(), dim=1)
    torch.testing.assert_close(model(images)[0], rows @ model.heads.linears[0].weight.T)
    with pytest.raises(UserError, match="cannot give the last 4 blocks"):
        MODELS.build({**settings, "features": ["cls4"]})


def test_what_cannot_be() -> None:
    for encoder, said in (({}, "names no network"), ({"modle": TRUNK}, "has no 'modle'")):
        with pytest.raises(UserError, match=said):
            MODELS.build(dict(type="LinearProbe", encoder=encoder, num_classes=10))
    with pytest.raises(ValueError, match="num_classes"):
        probe(**{"features": ("cls1",)}).__class__(ENCODER, 1)
    with pytest.raises(UserError, match="5 blocks were asked for and the backbone has 4"):
        probe(features=("cls5",))
    with pytest.raises(ValueError, match="mode"):
        probe()(batch()[0], mode="other")


def test_mixed_precision_stays_near() -> None:
    plain, mixed = probe(), probe(amp=True)
    images, samples = batch()
    assert mixed.encoder.amp and not plain.encoder.amp
    one = plain(images, samples, mode="loss")["loss"]
    other = mixed(images, samples, mode="loss")["loss"]
    assert other.dtype == torch.float32 and other.item() == pytest.approx(one.item(), rel=0.01)
    other.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixed.parameters())


def test_heads_alone_say_what_they_need() -> None:
    heads = LinearHeads([Head(2), Head(1, average=True)], width=3, num_classes=4)
    assert (heads.blocks, heads.average) == (2, True)
    rows = torch.arange(9.0).expand(2, 9)
    assert [tuple(logits.shape) for logits in heads(rows)] == [(2, 4), (2, 4)]
    torch.testing.assert_close(heads._columns(rows, Head(2)), rows[:, :6])
    torch.testing.assert_close(heads._columns(rows, Head(1, average=True)), rows[:, 3:])


def test_weights_of_other_heads_are_refused() -> None:
    state = probe(features=("cls4",), lr_scales=(1.0, 10.0)).state_dict()
    for settings, told in (
        (dict(features=("cls4",), lr_scales=(1.0, 100.0)), "'cls4 lr x10' is not among"),
        (dict(features=("cls3+avg",), lr_scales=(1.0, 10.0)), "'cls4 lr x1' is not among"),
        (dict(features=("cls4",), lr_scales=(10.0, 1.0)), "they come in another order"),
        (dict(features=("cls4",), lr_scales=(1.0, 10.0, 3.0)), "they are 4 of 5"),
    ):
        with pytest.raises(UserError, match=told):
            probe(**settings).load_state_dict(state)
    probe(features=("cls4",), lr_scales=(1.0, 10.0)).load_state_dict(state)
