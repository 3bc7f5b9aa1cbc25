"""The MSN loss against an independent formula, its limits, and Proposition 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mpmath import mp

from msn_mm.models.losses.msn_loss import MSNLoss, log_predictions, msn_loss
from msn_mm.models.ops.sinkhorn import sinkhorn


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def naive_terms(anchors, targets, prototypes, ta, tt, iterations):
    """Section 3 of the paper in plain numpy, in probabilities, one image and view at a time."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    p = softmax(unit(anchors) @ unit(prototypes).T / ta)
    q = softmax(unit(targets) @ unit(prototypes).T / tt)
    batch, k = q.shape
    for _ in range(iterations):
        q = q / q.sum(0, keepdims=True) * (batch / k)
        q = q / q.sum(1, keepdims=True)
    cross_entropy = np.mean(
        [-(q[i % batch] * np.log(p[i])).sum() for i in range(len(p))]  # view-major
    )
    mean = p.mean(0)
    return cross_entropy, math.log(k) + (mean * np.log(mean)).sum()


def batch_of(seed=0, views=3, batch=5, width=7, prototypes=6):
    g = torch.Generator().manual_seed(seed)
    make = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)  # noqa: E731
    return make(views * batch, width), make(batch, width), make(prototypes, width)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_value_equals_the_independent_formula(iterations):
    anchors, targets, prototypes = batch_of()
    loss = MSNLoss(me_max_weight=2.5, sinkhorn_iterations=iterations)
    got = loss(anchors, targets, prototypes)
    ce, me_max = naive_terms(
        anchors.numpy(), targets.numpy(), prototypes.numpy(), 0.1, 0.025, iterations
    )
    assert got["loss_msn"].item() == pytest.approx(ce, rel=1e-12)
    assert got["loss_me_max"].item() == pytest.approx(2.5 * me_max, rel=1e-12)


@pytest.mark.parametrize("iterations", [0, 3])
def test_gradients_equal_finite_differences_of_the_formula(iterations):
    anchors, targets, prototypes = batch_of(seed=1, views=2, batch=3, width=4, prototypes=5)
    anchors.requires_grad_()
    prototypes.requires_grad_()
    targets.requires_grad_()
    out = MSNLoss(0.5, 0.25, 1.5, iterations)(anchors, targets, prototypes)
    (out["loss_msn"] + out["loss_me_max"]).backward()
    assert targets.grad is None, "no gradient may reach the target network"

    # Targets are constants: compute them once from the unchanged prototypes.
    fixed = prototypes.detach().numpy()

    def total(a, c):
        unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
        q = softmax(unit(targets.detach().numpy()) @ unit(fixed).T / 0.25)
        for _ in range(iterations):
            q = q / q.sum(0, keepdims=True) * (q.shape[0] / q.shape[1])
            q = q / q.sum(1, keepdims=True)
        p = softmax(unit(a) @ unit(c).T / 0.5)
        mean = p.mean(0)
        ce = -(np.tile(q, (len(p) // len(q), 1)) * np.log(p)).sum(1).mean()
        return ce + 1.5 * (math.log(len(c)) + (mean * np.log(mean)).sum())

    for tensor, place in ((anchors, 0), (prototypes, 1)):
        arrays = [anchors.detach().numpy().copy(), fixed.copy()]
        numeric = np.zeros(tensor.shape)
        for index in np.ndindex(*tensor.shape):
            values = []
            for step in (1e-6, -1e-6):
                moved = [a.copy() for a in arrays]
                moved[place][index] += step
                values.append(total(*moved))
            numeric[index] = (values[0] - values[1]) / 2e-6
        np.testing.assert_allclose(tensor.grad.numpy(), numeric, atol=1e-8)


@pytest.mark.parametrize("iterations", [0, 3])
def test_extreme_logits_stay_finite_where_the_naive_formula_does_not(iterations):
    # Each image sits on a prototype of its own, so other prototypes' probabilities underflow.
    anchors = torch.eye(4).repeat(2, 1).requires_grad_()
    prototypes = torch.eye(4)[:3].clone().requires_grad_()
    loss = MSNLoss(1e-3, 1e-4, 1.0, iterations)
    with np.errstate(divide="ignore", invalid="ignore"):
        naive = naive_terms(
            anchors.detach().numpy(),
            anchors[:4].detach().numpy(),
            prototypes.detach().numpy(),
            1e-3,
            1e-4,
            iterations,
        )
    assert not np.isfinite(naive).all(), "this case should break the naive formula"
    out = loss(anchors, anchors[:4].detach(), prototypes)
    total = out["loss_msn"] + out["loss_me_max"]
    assert torch.isfinite(total)
    total.backward()
    assert torch.isfinite(anchors.grad).all() and torch.isfinite(prototypes.grad).all()


def test_extreme_value_equals_arbitrary_precision():
    # One image between two prototypes, at a temperature where exp() underflows.
    anchor = torch.tensor([[0.6, 0.8]])
    prototypes = torch.eye(2)
    out = msn_loss(
        anchor,
        torch.tensor([[1.0, 0.0]]),
        prototypes,
        anchor_temperature=5e-4,
        target_temperature=1e-4,
        sinkhorn_iterations=0,
    )
    mp.dps = 50
    weights = [mp.exp(mp.mpf("0.6") / mp.mpf("5e-4")), mp.exp(mp.mpf("0.8") / mp.mpf("5e-4"))]
    p = [w / sum(weights) for w in weights]
    assert out.cross_entropy.item() == pytest.approx(float(-mp.log(p[0])), rel=1e-5)
    entropy = -sum(x * mp.log(x) for x in p)
    assert out.me_max.item() == pytest.approx(float(mp.log(2) - entropy), rel=1e-5)


def test_sinkhorn_balances_prototypes():
    torch.manual_seed(0)
    log_p = torch.log_softmax(torch.randn(64, 8) * 3 + torch.arange(8), dim=1)
    before = log_p.exp().sum(0)
    after = sinkhorn(log_p, 3).exp()
    assert torch.allclose(after.sum(1), torch.ones(64))
    assert before.max() / before.min() > 50
    assert after.sum(0).max() / after.sum(0).min() < 2
    converged = sinkhorn(log_p, 500).exp()
    assert torch.allclose(converged.sum(0), torch.full((8,), 8.0), rtol=1e-3)


def test_loss_runs_in_float32_under_autocast():
    anchors, targets, prototypes = (x.float() for x in batch_of())
    loss = MSNLoss()
    expected = loss(anchors, targets, prototypes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(anchors, targets, prototypes)
    for name, value in expected.items():
        assert got[name].dtype == torch.float32
        assert torch.equal(got[name], value)


def test_anchors_are_view_major():
    _, targets, prototypes = batch_of(batch=4)
    prototypes = torch.cat([prototypes, targets])
    right = msn_loss(targets.repeat(3, 1), targets, prototypes)
    wrong = msn_loss(targets.repeat_interleave(3, 0), targets, prototypes)
    assert right.cross_entropy < wrong.cross_entropy


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(anchor_temperature=0.0), "positive"),
        (dict(target_temperature=0.1), "sharper"),
        (dict(me_max_weight=-1.0), "me_max_weight"),
        (dict(sinkhorn_iterations=-1), "sinkhorn_iterations"),
    ],
)
def test_wrong_hyper_parameters_raise(arguments, word):
    with pytest.raises(ValueError, match=word):
        MSNLoss(**arguments)


def test_anchors_must_be_whole_views():
    anchors, targets, prototypes = batch_of()
    with pytest.raises(ValueError, match="14 anchors for 5 targets"):
        MSNLoss()(anchors[:14], targets, prototypes)


def gradient_norms(z, prototypes, target):
    """Norms of the gradients of H(p+, p) and H(mean p), wrt z and the prototypes together.

    ``z``: (N, P) collapsed representations; ``target``: (K,), sharp and given.
    """
    norms = []
    for term in ("cross-entropy", "entropy"):
        z_, q_ = z.clone().requires_grad_(), prototypes.clone().requires_grad_()
        log_p = log_predictions(z_, q_, 0.1)
        if term == "cross-entropy":
            value = -(target * log_p).sum(1).mean()
        else:
            mean = log_p.exp().mean(0)
            value = -(mean * mean.log()).sum()
        gradients = torch.autograd.grad(value, (z_, q_))
        norms.append(sum(float(g.norm()) for g in gradients))
    return norms


def test_proposition_1_case_1_uniform_predictions():
    """Distinct prototypes at equal cosine to z: predictions uniform, targets sharp."""
    angles = torch.linspace(0, 2 * math.pi, 6, dtype=torch.float64)[:5]
    ring = torch.stack([angles.cos(), angles.sin(), torch.ones_like(angles)], dim=1)
    z = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).repeat(6, 1)
    p = log_predictions(z, ring, 0.1).exp()
    assert torch.allclose(p, torch.full_like(p, 0.2)), "the case must be the one of the proof"
    target = torch.tensor([0.9, 0.025, 0.025, 0.025, 0.025], dtype=torch.float64)
    cross_entropy, entropy = gradient_norms(z, ring, target)
    assert entropy < 1e-12, "the entropy is at its maximum here and pulls nowhere"
    assert cross_entropy > 0.1
    uniform, _ = gradient_norms(z, ring, torch.full((5,), 0.2, dtype=torch.float64))
    assert uniform < 1e-12, "without sharpening (assumption 1) the collapse is a fixed point"


def test_proposition_1_case_2_other_predictions():
    """Random prototypes: collapsed predictions are not uniform, and the entropy pulls."""
    torch.manual_seed(0)
    for _ in range(20):
        prototypes = torch.randn(5, 3, dtype=torch.float64)
        z = torch.randn(1, 3, dtype=torch.float64).repeat(6, 1)
        p = log_predictions(z, prototypes, 0.1).exp()
        # The cross-entropy alone would allow the collapse: give it its own fixed point.
        cross_entropy, entropy = gradient_norms(z, prototypes, p[0])
        assert cross_entropy < 1e-12
        assert entropy > 1e-6
