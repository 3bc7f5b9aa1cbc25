"""The losses of a denoising diffusion model, as functions.

Legend: B images, C channels, S side. Sources: Ho et al. 2020 (arXiv 2006.11239,
equations 7, 12 and 14) for the noise's error and the posterior; Nichol and Dhariwal 2021
(arXiv 2102.09672, equations 15 and 16) for a learned variance and the hybrid loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msn_mm.diffusion.noise_schedule import NoiseSchedule

# Images of 256 grey levels, scaled to [-1, 1].
_HALF_BIN = 1.0 / 255.0
_LEAST = 1e-12


def noise_error(predicted: Tensor, noise: Tensor) -> Tensor:
    """L_simple: the mean squared error of the predicted noise, ``(B, C, S, S)`` -> ``(B,)``."""
    return (predicted - noise).square().flatten(1).mean(1)


def learned_log_variance(raw: Tensor, schedule: NoiseSchedule, steps: Tensor) -> Tensor:
    """Interpolate ln of the variance between its two bounds.

    Args:
        raw: Output of the network, ``(B, C, S, S)``; -1 is the lower bound, 1 the upper.
        schedule: The schedule.
        steps: ``(B,)`` int64.
    """
    share = (raw + 1.0) / 2.0
    largest = schedule.at(schedule.log_largest, steps)
    smallest = schedule.at(schedule.log_smallest, steps)
    return share * largest + (1.0 - share) * smallest


def variational_bound(
    predicted: Tensor,
    raw_variance: Tensor,
    clean: Tensor,
    noisy: Tensor,
    schedule: NoiseSchedule,
    steps: Tensor,
) -> Tensor:
    """Return each image's term of the variational bound at its step, in bits a number.

    Of a step t > 0 that is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), of step 0 the
    negative log-likelihood of the image's grey levels.

    Args:
        predicted: Predicted noise, ``(B, C, S, S)``.
        raw_variance: As for :func:`learned_log_variance`.
        clean: x_0 in [-1, 1].
        noisy: x_t.
        schedule: The schedule.
        steps: t, ``(B,)`` int64.

    Returns:
        ``(B,)``.
    """
    noise_part = schedule.at(schedule.noise_weight, steps) * predicted
    guess = (noisy - noise_part) / schedule.at(schedule.clean_weight, steps)
    from_clean = schedule.at(schedule.posterior_clean, steps)
    from_noisy = schedule.at(schedule.posterior_noisy, steps)
    mean = from_clean * guess + from_noisy * noisy
    log_variance = learned_log_variance(raw_variance, schedule, steps)
    true_mean = from_clean * clean + from_noisy * noisy
    true_log_variance = schedule.at(schedule.log_smallest, steps)
    divergence = _gaussian_divergence(true_mean, true_log_variance, mean, log_variance)
    surprise = -grey_level_log_likelihood(clean, mean, log_variance)
    first = (steps == 0)[:, None, None, None]
    return torch.where(first, surprise, divergence).flatten(1).mean(1) / math.log(2.0)


def grey_level_log_likelihood(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """ln of the probability that a Gaussian gives each pixel's grey level, a bin 2/255 wide.

    The bins of black and white reach to infinity (arXiv 2006.11239, equation 13).
    """
    inverse = (-0.5 * log_variance).exp()
    centred = clean - mean
    above = torch.special.ndtr((centred + _HALF_BIN) * inverse)
    below = torch.special.ndtr((centred - _HALF_BIN) * inverse)
    above = torch.where(clean > 1.0 - _HALF_BIN, 1.0, above)
    below = torch.where(clean < -1.0 + _HALF_BIN, 0.0, below)
    return (above - below).clamp_min(_LEAST).log()


def denoising_losses(
    output: Tensor,
    noise: Tensor,
    clean: Tensor,
    noisy: Tensor,
    schedule: NoiseSchedule,
    steps: Tensor,
    bound_weight: float = 1e-3,
) -> dict[str, Tensor]:
    """Return the losses of a batch, means over its images.

    Args:
        output: Of the network: predicted noise ``(B, C, S, S)``, or with the variance
            behind it ``(B, 2C, S, S)``.
        noise: What was added.
        clean: x_0 in [-1, 1].
        noisy: x_t.
        schedule: The schedule.
        steps: t, ``(B,)`` int64.
        bound_weight: Lambda of the hybrid loss, on the bound over all T steps.

    Returns:
        ``loss_noise`` and, with a learned variance, ``loss_bound``, already weighted. The
        bound teaches the variance alone: the predicted noise gets no gradient from it.
    """
    channels = clean.shape[1]
    output = output.float()
    predicted = output[:, :channels]
    losses = {"loss_noise": noise_error(predicted, noise).mean()}
    if output.shape[1] == 2 * channels:
        bound = variational_bound(
            predicted.detach(), output[:, channels:], clean, noisy, schedule, steps
        )
        # A step is drawn uniformly, so T times its term estimates their sum.
        losses["loss_bound"] = bound_weight * schedule.num_steps * bound.mean()
    return losses


def _gaussian_divergence(
    mean: Tensor, log_variance: Tensor, other: Tensor, other_log_variance: Tensor
) -> Tensor:
    """KL(N(mean, variance) || N(other, other variance)) of each number, in nats."""
    ratio = (log_variance - other_log_variance).exp()
    distance = (mean - other).square() * (-other_log_variance).exp()
    return 0.5 * (ratio + distance - 1.0 - log_variance + other_log_variance)
