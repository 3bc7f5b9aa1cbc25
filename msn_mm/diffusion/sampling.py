"""Draw images from representations, each from random numbers of its own.

Legend: N samples, C channels, S side, D width of the representation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msn_mm.datasets.keys import SampleKey
from msn_mm.diffusion.library import diffusers
from msn_mm.diffusion.names import SAMPLERS
from msn_mm.diffusion.noise_schedule import NoiseSchedule
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.errors import UserError, did_you_mean
from msn_mm.models.ops.fixed_batch import CPU_BATCH, in_fixed_batches


class SampleId(NamedTuple):
    """Which sample of which image; with the seed, all that its random numbers depend on."""

    image: int
    number: int


@dataclass(frozen=True)
class Sampler:
    """How noise becomes an image.

    Attributes:
        name: ``ddpm`` (ancestral, with the learned variance where there is one, as ADM
            samples), ``ddim`` (Song et al. 2021) or ``dpm`` (DPM-Solver++ of second
            order, Lu et al. 2022), which are deterministic.
        steps: Evaluations of the network; at most those of the training.

    Raises:
        UserError: Another name, or no step.
    """

    name: str = "ddpm"
    steps: int = 50

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise UserError(
                f"the sampler is '{self.name}'.{did_you_mean(self.name, SAMPLERS)} There are "
                f"{', '.join(SAMPLERS)}"
            )
        if self.steps < 1:
            raise UserError(f"steps is {self.steps}; give 1 or more")

    def scheduler(self, schedule: NoiseSchedule, learned_variance: bool) -> Any:
        """Return a scheduler of ``diffusers``, its steps set.

        Raises:
            UserError: More steps than the training's.
        """
        if self.steps > schedule.num_steps:
            raise UserError(
                f"{self.steps} steps are more than the {schedule.num_steps} of the training; give "
                "fewer"
            )
        library = diffusers()
        shared = {**schedule.settings(), "timestep_spacing": "trailing"}
        if self.name == "ddim":
            found = library.DDIMScheduler(**shared, clip_sample=True)
        elif self.name == "dpm":
            # With 1 as its largest value the threshold is a clip to [-1, 1].
            found = library.DPMSolverMultistepScheduler(
                **shared, thresholding=True, sample_max_value=1.0
            )
        else:
            variance = "learned_range" if learned_variance else "fixed_small"
            found = library.DDPMScheduler(**shared, clip_sample=True, variance_type=variance)
        found.set_timesteps(self.steps)
        return found


@torch.inference_mode()
def draw_samples(
    model: RCDM,
    conditions: Tensor,
    ids: Sequence[SampleId],
    sampler: Sampler = Sampler(),
    seed: int = 0,
    batch_size: int = 64,
    amp: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Draw a sample for each condition, by the moving average of the UNet.

    A sample is a function of its condition, its id and the seed: on a CPU in float32 to
    the last bit, elsewhere up to rounding. Equal ids start from equal noise, so samples
    of different conditions compare.

    Args:
        model: On its device.
        conditions: What :meth:`~msn_mm.diffusion.rcdm.RCDM.represent` gives, ``(N, D)``.
        ids: N of them.
        sampler: How.
        seed: Seed of all noise.
        batch_size: Samples at a time.
        amp: Compute in bfloat16 where that is safe.
        progress: Called with the number of samples that were finished.

    Returns:
        uint8 ``(N, C, S, S)`` on the host.

    Raises:
        UserError: The conditions have another width than the model was trained with.
        ValueError: Not as many ids as conditions.
    """
    if len(ids) != len(conditions):
        raise ValueError(f"{len(ids)} ids for {len(conditions)} conditions")
    device = next(model.parameters()).device
    drawn = []
    for start in range(0, len(ids), batch_size):
        rows = slice(start, start + batch_size)
        generators = [_generator(seed, one) for one in ids[rows]]
        noise = _noise(model, generators).to(device)
        found = _denoised(model, conditions[rows].to(device), noise, generators, sampler, amp)
        drawn.append(((found.clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte().cpu())
        if progress is not None:
            progress(len(generators))
    channels, side = model.encoder.in_channels, model.image_size
    return torch.cat(drawn) if drawn else torch.empty(0, channels, side, side, dtype=torch.uint8)


def _denoised(
    model: RCDM,
    conditions: Tensor,
    latent: Tensor,
    generators: list[torch.Generator],
    sampler: Sampler,
    amp: bool,
) -> Tensor:
    scheduler = sampler.scheduler(model.schedule, model.learned_variance)
    further: dict[str, Any] = {}
    if sampler.name == "ddim":
        further["use_clipped_model_output"] = True
    elif sampler.name == "ddpm":
        further["generator"] = generators
    device = latent.device.type
    size = CPU_BATCH if device == "cpu" else len(latent)
    channels = latent.shape[1]
    for step in scheduler.timesteps.tolist():

        def predict(noisy: Tensor, rows: Tensor, step: int = step) -> Tensor:
            steps = torch.full((len(noisy),), step, dtype=torch.int64, device=noisy.device)
            return model.ema_unet(noisy, steps, rows)

        with torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
            output = in_fixed_batches(predict, size, latent, conditions).float()
        if sampler.name != "ddpm":
            output = output[:, :channels]
        latent = scheduler.step(output, step, latent, **further).prev_sample
    return latent


def _generator(seed: int, one: SampleId) -> torch.Generator:
    # On the host, whatever the device: the same numbers everywhere.
    key = SampleKey(one.image, seed, 0).view_key(one.number)
    return torch.Generator("cpu").manual_seed(key)


def _noise(model: RCDM, generators: Sequence[torch.Generator]) -> Tensor:
    shape = (1, model.encoder.in_channels, model.image_size, model.image_size)
    return torch.cat([torch.randn(shape, generator=each) for each in generators])
