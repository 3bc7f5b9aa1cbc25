"""The PMSN loss against an independent formula, and MSN as its uniform case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.models.losses.msn_loss import MSNLoss
from msn_mm.models.losses.pmsn_loss import PMSNLoss
from msn_mm.models.ops.sinkhorn import sinkhorn
from msn_mm.registry import MODELS
from tests.models.test_msn_loss import batch_of, softmax


def naive_terms(anchors, targets, prototypes, prior, iterations):
    """Cross-entropy and KL(mean || prior) in probabilities, in plain numpy."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    p = softmax(unit(anchors) @ unit(prototypes).T / 0.1)
    q = softmax(unit(targets) @ unit(prototypes).T / 0.025)
    batch = len(q)
    for _ in range(iterations):
        q = q / q.sum(0) * batch * prior
        q = q / q.sum(1, keepdims=True)
    ce = -np.mean([(q[i % batch] * np.log(p[i])).sum() for i in range(len(p))])
    mean = p.mean(0)
    return ce, (mean * np.log(mean / prior)).sum()


def given(k):
    return [1.0 + 2.0 * i for i in range(k)]


@pytest.mark.parametrize("iterations", [0, 2])
@pytest.mark.parametrize("kind", ["power law", "given"])
def test_value_equals_the_independent_formula(kind, iterations):
    anchors, targets, prototypes = batch_of(prototypes=6)
    if kind == "given":
        weights = np.array(given(6))
        loss = PMSNLoss(me_max_weight=3.0, sinkhorn_iterations=iterations, prior=given(6))
    else:
        weights = np.array([k**-0.4 for k in range(1, 7)])
        loss = PMSNLoss(me_max_weight=3.0, sinkhorn_iterations=iterations, exponent=0.4)
    got = loss(anchors, targets, prototypes)
    ce, kl = naive_terms(
        anchors.numpy(), targets.numpy(), prototypes.numpy(), weights / weights.sum(), iterations
    )
    assert got["loss_msn"].item() == pytest.approx(ce, rel=1e-12)
    assert got["loss_me_max"].item() == pytest.approx(3.0 * kl, rel=1e-12)


def test_gradients_equal_finite_differences_of_the_formula():
    anchors, targets, prototypes = batch_of(seed=2, views=2, batch=3, width=4, prototypes=5)
    anchors.requires_grad_()
    out = PMSNLoss(me_max_weight=2.0)(anchors, targets, prototypes)
    (out["loss_msn"] + out["loss_me_max"]).backward()
    prior = np.arange(1, 6) ** -0.25
    numeric = np.zeros(anchors.shape)
    for index in np.ndindex(*anchors.shape):
        values = []
        for step in (1e-6, -1e-6):
            moved = anchors.detach().numpy().copy()
            moved[index] += step
            ce, kl = naive_terms(
                moved, targets.numpy(), prototypes.numpy(), prior / prior.sum(), iterations=0
            )
            values.append(ce + 2.0 * kl)
        numeric[index] = (values[0] - values[1]) / 2e-6
    np.testing.assert_allclose(anchors.grad.numpy(), numeric, atol=2e-8)


@pytest.mark.parametrize("iterations", [0, 3])
@pytest.mark.parametrize("uniform", [dict(exponent=0.0), dict(prior=[0.7] * 6)])
def test_the_uniform_prior_is_msn(uniform, iterations):
    def losses(loss):
        anchors, targets, prototypes = batch_of(prototypes=6)
        anchors.requires_grad_()
        prototypes.requires_grad_()
        out = loss(anchors, targets, prototypes)
        sum(out.values()).backward()
        return [*out.values(), anchors.grad, prototypes.grad]

    found = losses(PMSNLoss(0.1, 0.025, 2.0, iterations, **uniform))
    for one, other in zip(found, losses(MSNLoss(0.1, 0.025, 2.0, iterations)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_the_divergence_is_least_at_the_prior_and_pulls_the_mean_there():
    torch.manual_seed(0)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    loss = PMSNLoss(prior=prior.tolist())
    anchors = torch.randn(200, 3, dtype=torch.float64, requires_grad=True)
    prototypes = torch.eye(3, dtype=torch.float64)
    optimizer = torch.optim.Adam([anchors], lr=0.05)
    for _ in range(200):
        terms = loss.terms(anchors, anchors.detach(), prototypes)
        optimizer.zero_grad()
        terms.me_max.backward()
        optimizer.step()
    assert 0 <= terms.me_max.item() < 1e-6
    torch.testing.assert_close(terms.log_mean_prediction.exp(), prior, atol=1e-3, rtol=0)


def test_sinkhorn_gives_the_prior_s_marginals():
    torch.manual_seed(0)
    log_p = torch.log_softmax(torch.randn(64, 5, dtype=torch.float64) * 3, dim=1)
    prior = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
    q = sinkhorn(log_p, 500, prior.log()).exp()
    torch.testing.assert_close(q.sum(1), torch.ones(64, dtype=torch.float64))
    torch.testing.assert_close(q.mean(0), prior, rtol=1e-3, atol=0)


def test_extreme_logits_stay_finite():
    anchors = torch.eye(4).repeat(2, 1).requires_grad_()
    loss = PMSNLoss(1e-3, 1e-4, 1.0, 3)
    out = loss(anchors, anchors[:4].detach(), torch.eye(4)[:3])
    total = sum(out.values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(anchors.grad).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(exponent=-1.0), "exponent"),
        (dict(exponent=math.inf), "exponent"),
        (dict(prior=[0.5, 0.0]), "positive"),
        (dict(target_temperature=0.1), "sharper"),
    ],
)
def test_wrong_hyper_parameters_raise(arguments, word):
    with pytest.raises(ValueError, match=word):
        PMSNLoss(**arguments)


def test_a_prior_of_another_length_is_told():
    with pytest.raises(UserError, match="2 numbers for 6 prototypes"):
        PMSNLoss(prior=[0.5, 0.5])(*batch_of(prototypes=6))


def test_msn_with_the_prior_builds_from_a_config():
    loss = MODELS.build(dict(type="PMSNLoss", me_max_weight=5.0))
    assert loss.sinkhorn_iterations == 0 and loss.exponent == 0.25
