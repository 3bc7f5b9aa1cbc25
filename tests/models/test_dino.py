"""DINO: the loss against its definition, the centre, the networks."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule

from msn_mm.errors import UserError
from msn_mm.models.heads.dino_head import DINOHead
from msn_mm.models.losses.centre import Centre
from msn_mm.models.losses.dino_loss import DINOLoss, dino_loss
from msn_mm.models.methods.base import ViewUse
from msn_mm.models.methods.dino import DINO
from msn_mm.registry import MODELS

BACKBONE = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
BACKBONE |= dict(embed_dim=24, depth=2, num_heads=3, drop_path_rate=0.3)


def tiny_dino(**changes) -> DINO:
    torch.manual_seed(0)
    config = dict(
        backbone=BACKBONE,
        head=dict(type="DINOHead", hidden_dim=32, bottleneck_dim=16, output_dim=12),
        loss=dict(type="DINOLoss"),
    )
    return DINO(**copy.deepcopy({**config, **changes}))


def dino_views(batch=4, local=3, seed=0):
    g = torch.Generator().manual_seed(seed)

    def group(n, side):
        return {
            "images": torch.randn(n * batch, 3, side, side, generator=g),
            "key": torch.randint(0, 2**32, (n * batch,), generator=g),
        }

    return {"global_1": group(1, 32), "global_2": group(1, 32), "local": group(local, 16)}


def by_definition(predictions, targets, centre, tau, tau_target):
    """Equations 1 to 3 of the paper: a loop over pairs of views and images."""
    batch, terms = predictions[0].shape[0], []
    for t, view in enumerate(targets.split(batch)):
        p = torch.exp((view - centre) / tau_target)
        p = (p / p.sum(1, keepdim=True)).detach()
        for s, logits in enumerate(predictions):
            if s == t:
                continue
            q = torch.exp(logits / tau)
            q = q / q.sum(1, keepdim=True)
            terms += [-(p[b] * q[b].log()).sum() for b in range(batch)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("views", "targets"), [(5, 2), (2, 2), (4, 1), (3, 3)])
def test_loss_and_gradients_are_the_definition_s(views, targets):
    g = torch.Generator().manual_seed(1)
    logits = [torch.randn(3, 7, generator=g, dtype=torch.float64) for _ in range(views)]
    target = torch.randn(targets * 3, 7, generator=g, dtype=torch.float64)
    centre = torch.randn(7, generator=g, dtype=torch.float64)
    mine = [x.clone().requires_grad_() for x in logits]
    theirs = [x.clone().requires_grad_() for x in logits]
    terms = dino_loss(mine, target, centre=centre, temperature=0.3, target_temperature=0.2)
    want = by_definition(theirs, target, centre, 0.3, 0.2)
    assert terms.cross_entropy.item() == pytest.approx(want.item(), abs=1e-12)
    got = torch.autograd.grad(terms.cross_entropy, mine)
    for one, other in zip(
        got, torch.autograd.grad(want, theirs, materialize_grads=True), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    mean = torch.stack([(x / 0.3).softmax(1) for x in logits]).mean((0, 1))
    torch.testing.assert_close(terms.log_mean_prediction.exp(), mean)
    torch.testing.assert_close(terms.targets, ((target - centre) / 0.2).softmax(1))


def test_loss_keeps_no_pair_of_views():
    """What is saved for the backward pass grows with views, not with pairs of them."""
    batch, outputs, sizes = 4, 512, {}
    for views in (4, 8):
        logits = [torch.randn(batch, outputs, requires_grad=True) for _ in range(views)]
        saved: dict[int, int] = {}

        def keep(x, saved=saved):
            saved[x.data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            dino_loss(logits, torch.randn(4 * batch, outputs), centre=torch.zeros(outputs))
        sizes[views] = sum(saved.values()) / (batch * outputs)
    assert sizes[8] - sizes[4] < 2 * 4 + 0.5, "two of (B, K) for each further view at most"


def test_loss_of_extreme_logits_is_finite():
    logits = [torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True) for _ in range(3)]
    terms = dino_loss(
        logits, torch.tensor([[1.0, -400.0, 400.0]]), centre=torch.zeros(3), temperature=0.1
    )
    terms.cross_entropy.backward()
    assert terms.cross_entropy.isfinite() and logits[1].grad.isfinite().all()
    assert terms.log_mean_prediction.isfinite().all()


@pytest.mark.parametrize(
    ("views", "targets"), [(1, 4), (2, 7), (2, 12)], ids=["one view", "odd", "too many targets"]
)
def test_views_that_do_not_fit_are_refused(views, targets):
    with pytest.raises(ValueError, match="two views"):
        dino_loss([torch.zeros(4, 3)] * views, torch.zeros(targets, 3), centre=torch.zeros(3))


@pytest.mark.parametrize("bad", [{"target_temperature": 0.1}, {"temperature": -1.0}])
def test_impossible_temperatures_are_refused(bad):
    with pytest.raises(ValueError, match="sharper"):
        DINOLoss(8, **bad)
    with pytest.raises(ValueError, match="centre_momentum"):
        DINOLoss(8, centre_momentum=1.5)


def test_the_centre_is_a_moving_mean_of_what_was_seen():
    centre, g = Centre(5, momentum=0.8).double(), torch.Generator().manual_seed(0)
    want = torch.zeros(5, dtype=torch.float64)
    for _ in range(3):
        parts = [torch.randn(6, 5, generator=g, dtype=torch.float64) for _ in range(2)]
        for part in parts:
            centre.observe(part.mean(0))
        centre.step()
        want = 0.8 * want + 0.2 * torch.cat(parts).mean(0)
    torch.testing.assert_close(centre.value, want)
    before = centre.value.clone()
    centre.step()
    centre.observe(torch.full((5,), float("nan")))
    centre.step(torch.tensor(True))
    assert torch.equal(centre.value, before)
    centre.observe(torch.zeros(5))
    centre.step(torch.tensor(False))
    torch.testing.assert_close(centre.value, 0.8 * before)


@pytest.mark.parametrize("norm", [True, False])
def test_head_is_cosines_of_the_bottleneck(norm):
    torch.manual_seed(0)
    head = DINOHead(6, output_dim=9, hidden_dim=8, bottleneck_dim=4, norm_last_layer=norm).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    hidden = head.projector(x)
    want = torch.cosine_similarity(hidden[:, None], head.last_layer.weight[None], dim=2)
    torch.testing.assert_close(head(x), want)
    names = {name for name, _ in head.last_layer.named_parameters()}
    assert names == ({"weight"} if norm else {"weight", "length"})
    if not norm:
        with torch.no_grad():
            head.last_layer.length.mul_(3.0)
        torch.testing.assert_close(head(x), 3 * want)


def test_loss_of_the_model_is_the_definition_on_its_networks():
    model = tiny_dino(loss=dict(type="DINOLoss", target_temperature=0.05)).double().eval()
    with torch.no_grad():
        model.loss_module.centre.value.copy_(torch.linspace(-0.2, 0.2, 12))
        for parameter in model.target_head.parameters():
            parameter.mul_(1.3)
    views = dino_views()
    for view in views.values():
        view["images"] = view["images"].double()
    got = model.loss(views)
    images = [views["global_1"]["images"], views["global_2"]["images"]]
    images += list(views["local"]["images"].split(4))
    predictions = [model.head(model.backbone(x)) for x in images]
    targets = model.target_head(model.target_backbone(torch.cat(images[:2])))
    want = by_definition(predictions, targets, model.loss_module.centre.value, 0.1, 0.05)
    assert got["loss_dino"].item() == pytest.approx(want.item(), abs=1e-10)
    assert got["ce_over_ln_k"].item() == pytest.approx(want.item() / torch.tensor(12.0).log())


def test_gradients_reach_the_trained_network_only_and_depth_is_dropped_there_only():
    model = tiny_dino().train()
    views = dino_views()
    losses = model.loss(views)
    losses["loss_dino"].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    images, keys = views["global_1"]["images"], views["global_1"]["key"]
    whole = model.eval().target_backbone(images)
    assert torch.equal(model.train().target_backbone(images, keys=keys), whole)
    assert not torch.equal(model.backbone(images, keys=keys), whole)
    assert set(model.diagnostics) == {"representations", "mean_prediction", "cross_entropy"}
    assert model.diagnostics["mean_prediction"].sum().item() == pytest.approx(1, abs=1e-5)
    assert all(value.isfinite() for value in model.magnitudes.values())


def test_the_target_starts_equal_where_a_part_initialises_itself():
    class Head(BaseModule):
        output_dim = 12

        def __init__(self, in_dim: int) -> None:
            super().__init__(init_cfg=dict(type="Normal", layer="Linear"))
            self.last_layer = torch.nn.Linear(in_dim, 12)

    MODELS.register_module(module=Head, name="HeadThatInitialisesItself", force=True)
    model = tiny_dino(head=dict(type="HeadThatInitialisesItself"))
    before = model.head.last_layer.weight.clone()
    model.init_weights()
    assert not torch.equal(model.head.last_layer.weight, before)
    assert torch.equal(model.head.last_layer.weight, model.target_head.last_layer.weight)


def test_logits_and_targets_are_in_full_precision_under_autocast():
    torch.manual_seed(0)
    head = DINOHead(24, output_dim=512, hidden_dim=32, bottleneck_dim=16, init_std=0.3)
    rows = torch.randn(64, 24)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = head.embed(rows)
        got = head.last_layer(embedded)
        inner = head.last_layer(embedded.bfloat16())
    assert got.dtype == inner.dtype == embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(64), atol=1e-6, rtol=0)
    want = embedded.double() @ F.normalize(head.last_layer.weight.double(), dim=1).T
    targets, exact_targets = (torch.softmax(x.double() / 0.04, dim=1) for x in (got, want))
    # of bfloat16 logits 0.01
    assert (targets - exact_targets).abs().sum(1).max() < 1e-4
    (gradient,) = torch.autograd.grad(got.square().sum(), head.last_layer.weight)
    assert gradient.dtype == torch.float32


def test_a_forward_pass_alone_moves_no_centre():
    model = tiny_dino().train()
    before = copy.deepcopy(model.state_dict())
    model.loss(dino_views())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.centres()[0].step()
    assert model.loss_module.centre.value.abs().sum() > 0


def test_views_that_dino_cannot_use_are_named():
    views = dino_views()
    lost = {name: view for name, view in views.items() if name != "global_2"}
    with pytest.raises(UserError, match="needs a view named 'global_2'"):
        tiny_dino().loss(lost)
    views["global_2"] = {key: value[:2] for key, value in views["global_2"].items()}
    with pytest.raises(UserError, match="alike in size"):
        tiny_dino().loss(views)
    with pytest.raises(UserError, match="list of names"):
        tiny_dino(target_views="global_1")


def test_use_of_views():
    model = tiny_dino()
    assert model.view_use("global_1") == ViewUse(trained=True, target=True)
    assert model.view_use("local") == ViewUse(trained=True)


def test_images_meet_in_batch_norm_only():
    from msn_mm.engine.batch import couples_images

    config = {"model": {"type": "DINO", "head": {"type": "DINOHead"}}}
    assert not couples_images(config)
    config["model"]["head"]["batch_norm"] = True
    assert couples_images(config)
    head = DINOHead(6, output_dim=9, hidden_dim=8, bottleneck_dim=4, batch_norm=True)
    kinds = [type(layer).__name__ for layer in head.projector]
    assert kinds == ["Linear", "SyncBatchNorm", "GELU"] * 2 + ["Linear"]
    assert head.projector[0].weight.std().item() == pytest.approx(0.02, abs=0.008)
    assert DINOHead(64, hidden_dim=64, init_std=0.5).projector[0].weight.std() > 0.4
