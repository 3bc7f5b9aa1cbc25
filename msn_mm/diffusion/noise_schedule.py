"""How much noise a diffusion step adds, and what follows from it.

Legend: T steps, B images. Notation of Ho et al. 2020 (arXiv 2006.11239): beta_t, alpha-bar_t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.diffusion.library import diffusers
from msn_mm.errors import UserError, did_you_mean

BETA_SCHEDULES = ("linear", "squaredcos_cap_v2", "sigmoid")


class NoiseSchedule(nn.Module):
    """The betas of a diffusion process of T steps, and the posterior q(x_{t-1} | x_t, x_0).

    Args:
        num_steps: T.
        betas: ``linear`` (Ho et al. 2020, ADM), ``squaredcos_cap_v2`` (Nichol and
            Dhariwal 2021) or ``sigmoid``, as ``diffusers`` computes them.

    Attributes:
        clean_weight: ``(T,)`` float64, sqrt(alpha-bar_t): weight of x_0 in x_t.
        noise_weight: ``(T,)`` sqrt(1 - alpha-bar_t): weight of the noise in x_t.
        posterior_clean: ``(T,)`` weight of x_0 in the posterior's mean.
        posterior_noisy: ``(T,)`` weight of x_t in the posterior's mean.
        log_largest: ``(T,)`` ln beta_t, the upper bound of a learned variance.
        log_smallest: ``(T,)`` ln of the posterior's variance, the lower bound. That of
            the first step is 0; the second one's stands in its place.

    Raises:
        UserError: Another schedule, or fewer than two steps.
    """

    clean_weight: Tensor
    noise_weight: Tensor
    posterior_clean: Tensor
    posterior_noisy: Tensor
    log_largest: Tensor
    log_smallest: Tensor

    def __init__(self, num_steps: int = 1000, betas: str = "linear") -> None:
        super().__init__()
        if betas not in BETA_SCHEDULES:
            raise UserError(
                f"model.schedule.betas is '{betas}'.{did_you_mean(betas, BETA_SCHEDULES)} There "
                f"are {', '.join(BETA_SCHEDULES)}"
            )
        if num_steps < 2:
            raise UserError(f"model.schedule.num_steps is {num_steps}; it must be 2 or more")
        self.num_steps, self.betas = num_steps, betas
        # Formed on the host in double precision: products of a thousand factors.
        with torch.device("cpu"):
            found = diffusers().DDPMScheduler(**self.settings()).betas.double()
            kept = (1.0 - found).cumprod(0)
            before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
            variance = found * (1.0 - before) / (1.0 - kept)
            variance[0] = variance[1]
        values = {
            "clean_weight": kept.sqrt(),
            "noise_weight": (1.0 - kept).sqrt(),
            "posterior_clean": found * before.sqrt() / (1.0 - kept),
            "posterior_noisy": (1.0 - before) * (1.0 - found).sqrt() / (1.0 - kept),
            "log_largest": found.log(),
            "log_smallest": variance.log(),
        }
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)

    def settings(self) -> dict[str, Any]:
        """Return what gives a scheduler of ``diffusers`` the same betas."""
        return {"num_train_timesteps": self.num_steps, "beta_schedule": self.betas}

    def at(self, values: Tensor, steps: Tensor) -> Tensor:
        """Look up one of the attributes for each image: ``(B,)`` steps -> (B, 1, 1, 1) float32."""
        return values[steps].float()[:, None, None, None]

    def add_noise(self, clean: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """Draw x_t from q(x_t | x_0).

        Args:
            clean: x_0, ``(B, C, S, S)`` in [-1, 1].
            noise: Standard normal, of the same shape.
            steps: t, ``(B,)`` int64 from 0.
        """
        weights = self.at(self.clean_weight, steps), self.at(self.noise_weight, steps)
        return weights[0] * clean + weights[1] * noise
