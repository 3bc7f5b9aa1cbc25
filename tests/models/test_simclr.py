"""SimCLR against NT-Xent written out, one pair at a time."""

from __future__ import annotations

import math

import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.models.losses.nt_xent import pair_similarities
from tests.models.two_view_methods import BACKBONE, NECK, pair, tiny_simclr


def nt_xent(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1 of arXiv 2002.05709, its sum over all ordered pairs, row by row."""
    n = len(z) // 2
    total = torch.zeros((), dtype=z.dtype)
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        similar = [torch.dot(z[i], z[k]) / (z[i].norm() * z[k].norm()) for k in range(2 * n)]
        below = sum((s / temperature).exp() for k, s in enumerate(similar) if k != i)
        total = total - ((similar[j] / temperature).exp() / below).log()
    return total / (2 * n)


def test_loss_and_gradients_are_the_paper_s():
    model = tiny_simclr().double().train()
    batch = pair()
    out = model.loss(batch)
    out["loss_nt_xent"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}

    again = tiny_simclr().double().train()
    images = torch.cat([view["images"] for view in batch.values()])
    h = again.backbone(images)
    neck = again.neck
    hidden = neck.fc0(h)
    hidden = torch.relu(
        (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
        * neck.bn0.weight + neck.bn0.bias
    )  # fmt: skip
    z = neck.fc1(hidden)
    z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
    expected = nt_xent(z * neck.bn1.weight + neck.bn1.bias, 0.1)
    expected.backward()
    assert out["loss_nt_xent"].item() == pytest.approx(expected.item(), abs=1e-12)
    for name, p in again.named_parameters():
        assert torch.allclose(gradients[name], p.grad, atol=1e-10), name
    assert 0 <= out["contrast_accuracy"] <= 1


def test_similarities_leave_out_the_view_itself_and_its_partner():
    z = torch.randn(6, 5, dtype=torch.float64)
    partner, others = pair_similarities(z)
    cosines = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    for i in range(6):
        j = (i + 3) % 6
        assert torch.allclose(partner[i, 0], cosines[i, j])
        rest = [cosines[i, k] for k in range(6) if k not in (i, j)]
        assert torch.allclose(others[i], torch.stack(rest))


def test_pairs_found_by_all_and_by_none():
    eye = torch.eye(4, dtype=torch.float64)
    model = tiny_simclr().double().eval()

    def loss_of(first, second):
        return model.head.loss(*pair_similarities(torch.cat([first, second]))).item()

    # A partner at similarity 1, six others at 0, temperature 0.1.
    assert loss_of(eye, eye) == pytest.approx(math.log1p(6 * math.exp(-10)), rel=1e-9)
    # All alike: nothing tells the partner from the six others.
    assert loss_of(eye[:1].expand(4, -1), eye[:1].expand(4, -1)) == pytest.approx(math.log(7))


def test_one_group_of_two_views_is_two_groups_of_one():
    losses = [
        tiny_simclr().double().train().loss(pair(one_group=one))["loss_nt_xent"].item()
        for one in (False, True)
    ]
    assert losses[0] == losses[1]


def test_features_are_the_network_s_own():
    model = tiny_simclr().double().eval()
    images = pair()["one"]["images"]
    assert torch.equal(model(images), model.backbone(images))
    assert model(images).shape == (4, 8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(neck={**NECK, "in_channels": 99}), "in_channels is 99 and what it reads is 8 wide"),
        (dict(backbone=dict(type="mmpretrain.ResNet", depth=18)), "does not say its width"),
        (dict(backbone={**BACKBONE, "block": "odd"}), "block 'odd' of PlainResNet"),
    ],
)
def test_parts_that_do_not_fit_say_so_in_one_line(changes, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        tiny_simclr(**changes)
    assert "\n" not in str(caught.value)


def test_another_number_of_views_says_so():
    batch = {**pair(), "three": pair()["one"]}
    with pytest.raises(UserError, match=r"SimCLR needs two views .* one \(4\), two \(4\), three"):
        tiny_simclr().double().loss(batch)
    with pytest.raises(UserError, match="needs two views"):
        tiny_simclr().double().loss({"one": pair(batch=3)["one"]})
