"""The losses against formulas written another way, in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from msn_mm.diffusion.denoising_loss import (
    denoising_losses,
    grey_level_log_likelihood,
    learned_log_variance,
    noise_error,
    variational_bound,
)
from msn_mm.diffusion.noise_schedule import NoiseSchedule
from msn_mm.errors import UserError

pytest.importorskip("diffusers")

STEPS = 50


@pytest.fixture(scope="module", params=["linear", "squaredcos_cap_v2"])
def schedule(request):
    return NoiseSchedule(STEPS, request.param)


def batch(schedule, steps, channels=3, side=4):
    generator = torch.Generator().manual_seed(1)
    shape = (len(steps), channels, side, side)
    clean = torch.randint(0, 256, shape, generator=generator) / 127.5 - 1.0
    noise = torch.randn(shape, generator=generator)
    output = torch.randn((len(steps), 2 * channels, side, side), generator=generator)
    output[:, channels:].clamp_(-1.0, 1.0)
    return clean, noise, schedule.add_noise(clean, noise, steps), output


def betas_of(schedule):
    from diffusers import DDPMScheduler

    return DDPMScheduler(**schedule.settings()).betas.double().numpy()


def test_noise_is_added_as_step_by_step(schedule):
    """x_t after t + 1 steps x <- sqrt(1 - beta) x + sqrt(beta) noise has this mean and variance."""
    betas = betas_of(schedule)
    for t in (0, 3, STEPS - 1):
        share, variance = 1.0, 0.0
        for beta in betas[: t + 1]:
            share *= math.sqrt(1 - beta)
            variance = (1 - beta) * variance + beta
        one = torch.ones(1, 1, 1, 1)
        step = torch.tensor([t])
        assert schedule.add_noise(one, 0 * one, step).item() == pytest.approx(share, rel=1e-6)
        assert schedule.add_noise(0 * one, one, step).item() == pytest.approx(
            math.sqrt(variance), rel=1e-6
        )


def test_bound_is_the_divergence_from_the_posterior_of_two_gaussians(schedule):
    """q(x_{t-1} | x_t, x_0) by multiplying densities (Bayes), the rest by torch.distributions."""
    steps = torch.tensor([1, 2, 17, STEPS - 1])
    clean, _, noisy, output = batch(schedule, steps)
    found = variational_bound(output[:, :3], output[:, 3:], clean, noisy, schedule, steps)
    betas = betas_of(schedule)
    kept = np.cumprod(1 - betas)
    for row, t in enumerate(steps.tolist()):
        x0, xt, eps = (part[row].double() for part in (clean, noisy, output[:, :3]))

        def posterior(start, t=t, xt=xt):
            # p(x_{t-1} | x_0) = N(sqrt(kept) x_0, 1 - kept), p(x_t | x_{t-1}) = N(sqrt(a) x, b)
            precision = 1 / (1 - kept[t - 1]) + (1 - betas[t]) / betas[t]
            weighted = start * math.sqrt(kept[t - 1]) / (1 - kept[t - 1])
            weighted = weighted + xt * math.sqrt(1 - betas[t]) / betas[t]
            return weighted / precision, 1 / precision

        mean, variance = posterior(x0)
        guess = (xt - math.sqrt(1 - kept[t]) * eps) / math.sqrt(kept[t])
        share = (output[row, 3:].double() + 1) / 2
        learned = betas[t] ** share * variance ** (1 - share)
        expected = kl_divergence(
            Normal(mean, math.sqrt(variance)), Normal(posterior(guess)[0], learned.sqrt())
        )
        assert found[row].item() == pytest.approx(expected.mean().item() / math.log(2), rel=2e-3)


def test_first_step_is_the_likelihood_of_grey_levels(schedule):
    steps = torch.zeros(2, dtype=torch.int64)
    clean, _, noisy, output = batch(schedule, steps)
    clean[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    log_variance = learned_log_variance(output[:, 3:], schedule, steps)
    mean = clean + 0.01 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    found = grey_level_log_likelihood(clean, mean, log_variance)
    bins = Normal(mean.double(), (0.5 * log_variance.double()).exp())
    high = torch.where(clean > 0.999, torch.inf, clean.double() + 1 / 255)
    low = torch.where(clean < -0.999, -torch.inf, clean.double() - 1 / 255)
    expected = (bins.cdf(high) - bins.cdf(low)).clamp_min(1e-12).log()
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=2e-4)
    # All 256 levels of one pixel together are certain.
    levels = torch.arange(256)[:, None, None, None] / 127.5 - 1.0
    at = torch.full_like(levels, 0.3)
    total = grey_level_log_likelihood(levels, at, torch.full_like(levels, -6.0)).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)
    whole = variational_bound(output[:, :3], output[:, 3:], clean, noisy, schedule, steps)
    assert torch.isfinite(whole).all()


def test_losses_of_a_batch(schedule):
    steps = torch.tensor([0, 5, 30])
    clean, noise, noisy, output = batch(schedule, steps)
    output.requires_grad_()
    losses = denoising_losses(output, noise, clean, noisy, schedule, steps, bound_weight=1e-3)
    by_hand = np.mean((output[:, :3].detach().numpy() - noise.numpy()) ** 2)
    assert losses["loss_noise"].item() == pytest.approx(by_hand, rel=1e-6)
    terms = variational_bound(output[:, :3], output[:, 3:], clean, noisy, schedule, steps)
    assert losses["loss_bound"].item() == pytest.approx(
        1e-3 * STEPS * terms.mean().item(), rel=1e-6
    )
    # The bound teaches the variance alone.
    losses["loss_bound"].backward(retain_graph=True)
    assert output.grad[:, :3].abs().max() == 0 and output.grad[:, 3:].abs().max() > 0
    alone = denoising_losses(output[:, :3], noise, clean, noisy, schedule, steps)
    assert set(alone) == {"loss_noise"} and alone["loss_noise"] == losses["loss_noise"]
    perfect = torch.cat([noise, output[:, 3:].detach()], dim=1)
    assert noise_error(perfect[:, :3], noise).max() == 0


def test_impossible_schedules_are_refused():
    with pytest.raises(UserError, match=r"'lineer'\. Did you mean 'linear'"):
        NoiseSchedule(10, "lineer")
    with pytest.raises(UserError, match="num_steps is 1"):
        NoiseSchedule(1)
