"""LARS against algorithm 1 of its paper, written out, and against mmpretrain's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from msn_mm.engine.optim.lars import LARS, LARSGroupsConstructor
from msn_mm.registry import OPTIMIZERS


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3, bias=False)).double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> list[list]:
    gradients = []
    for step in range(steps):
        x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        optimizer.step()
    return gradients


def test_lars_is_algorithm_1():
    model = net()
    start = [p.detach().clone() for p in model.parameters()]
    wrapper = LARSGroupsConstructor(
        dict(optimizer=dict(type="LARS", lr=0.3, momentum=0.9, weight_decay=0.1, eta=0.02, eps=0.0))
    )(model)
    assert isinstance(wrapper.optimizer, LARS)
    gradients = train(model, wrapper.optimizer)
    for k, (weight, end) in enumerate(zip(start, model.parameters(), strict=True)):
        velocity = torch.zeros_like(weight)
        for step in gradients:
            g = step[k]
            rate, decay = 1.0, 0.0
            if weight.ndim > 1:  # batch norm and biases have neither
                decay = 0.1
                w_length, g_length = weight.pow(2).sum().sqrt(), g.pow(2).sum().sqrt()
                rate = 0.02 * w_length / (g_length + 0.1 * w_length)
            velocity = 0.9 * velocity + 0.3 * rate * (g + decay * weight)
            weight = weight - velocity
        assert torch.allclose(end, weight, atol=1e-13, rtol=0), k


def test_lars_is_mmpretrain_s_and_takes_its_state():
    theirs = OPTIMIZERS.parent.get("LARS")
    if theirs is None:
        import mmpretrain.engine  # noqa: F401

        theirs = OPTIMIZERS.parent.get("LARS")
    assert theirs is not LARS
    one, other = net(), net()
    settings = dict(lr=0.3, momentum=0.9, weight_decay=0.1)
    a, b = LARS(one.parameters(), **settings), theirs(other.parameters(), **settings)
    train(one, a)
    train(other, b)
    state = copy.deepcopy(b.state_dict())
    assert state["state"].keys() == a.state_dict()["state"].keys()
    a.load_state_dict(state)
    train(one, a, 2)
    train(other, b, 2)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-12, rtol=0)


def test_a_weight_or_gradient_of_zeros_takes_the_plain_rate():
    weight, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    weight.grad, still.grad = torch.ones(3), torch.zeros(3)
    LARS([weight, still], lr=0.5, weight_decay=0.2).step()
    assert torch.equal(weight.detach(), torch.full((3,), -0.5))
    assert torch.allclose(still.detach(), torch.full((3,), 0.9))


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match=r"LARS's momentum is -0\.1"):
        LARS([nn.Parameter(torch.ones(1))], lr=0.1, momentum=-0.1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_that_is_flagged_changes_nothing_and_the_next_goes_on(momentum):
    """As if the flagged steps had not been, whatever their gradients."""
    settings = dict(lr=0.3, momentum=momentum, weight_decay=0.1, eta=0.02)
    one, other = net(), net()
    plain, flagged = (LARS(model.parameters(), **settings) for model in (one, other))
    for step in range(5):
        bad = step in (0, 3)
        for model, optimizer in ((one, plain), (other, flagged)):
            model[1].eval()  # running statistics are not the optimizer's
            x = torch.randn(
                6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step)
            )
            optimizer.zero_grad()
            (model(x).square().sum() * (float("nan") if bad else 1.0)).backward()
        if not bad:
            plain.step()
        flagged.found_inf = torch.tensor(float(bad))
        flagged.step()
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
