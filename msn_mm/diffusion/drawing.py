"""Samples of images under several masks: what a picture and a measurement both need.

Legend: I images, M samples an image, C channels, S side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from msn_mm.datasets import EvaluationImages
from msn_mm.diffusion.loading import hidden_patches, read_pixels
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.diffusion.sampling import SampleId, Sampler, draw_samples
from msn_mm.evaluation.extraction import Mask

_BATCH = 64


@dataclass(frozen=True)
class Drawing:
    """What one RCDM makes of images under one mask.

    Attributes:
        ratio: Share of patches that the encoder did not see.
        hidden: ``(I, R, K)`` bool, those patches; None of whole images.
        samples: uint8 ``(I, M, C, S, S)``.
    """

    ratio: float
    hidden: Tensor | None
    samples: Tensor


@dataclass(frozen=True)
class Plan:
    """How many samples are drawn of what.

    Attributes:
        samples: M.
        sampler: How.
        seed: Seed of masks and noise.
        batch_size: Samples at a time.
        amp: Compute in bfloat16 where that is safe.
        progress: Called with the number of samples that were finished.
    """

    samples: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    seed: int = 0
    batch_size: int = 64
    amp: bool = False
    progress: Callable[[int], object] | None = None

    def settings(self) -> dict[str, Any]:
        """Return what samples depend on, for ``results.json``."""
        return {
            "samples": self.samples,
            "sampler": self.sampler.name,
            "steps": self.sampler.steps,
            "seed": self.seed,
            "precision": "bfloat16 autocast" if self.amp else "float32",
        }

    def ids(self, indices: Sequence[int]) -> list[SampleId]:
        """Return the ids of all samples, image by image."""
        return [SampleId(i, number) for i in indices for number in range(self.samples)]

    def draw(self, model: RCDM, conditions: Tensor, ids: Sequence[SampleId]) -> Tensor:
        """Draw samples; see :func:`~msn_mm.diffusion.sampling.draw_samples`."""
        how = (self.sampler, self.seed, self.batch_size, self.amp, self.progress)
        return draw_samples(model, conditions, ids, *how)


def conditions_of(
    model: RCDM, images: EvaluationImages, indices: Sequence[int], mask: Mask
) -> Tensor:
    """Represent images, whole or masked, a few at a time: ``(I, D)``."""
    device = next(model.parameters()).device
    rows = []
    for start in range(0, len(indices), _BATCH):
        part = list(indices[start : start + _BATCH])
        keys = mask.keys(part)
        pixels = read_pixels(images, part).to(device)
        rows.append(model.represent(pixels, mask.ratio, keys))
    return torch.cat(rows)


def draw(
    model: RCDM,
    images: EvaluationImages,
    indices: Sequence[int],
    ratios: Sequence[float],
    plan: Plan,
) -> list[Drawing]:
    """Draw samples of images under each mask.

    Args:
        model: The RCDM.
        images: The images.
        indices: Which of them.
        ratios: Shares of patches to drop, 0 for whole images. The patches that a lower
            ratio drops are among those of a higher one.
        plan: How many, and how.
    """
    found = []
    ids = plan.ids(indices)
    for ratio in ratios:
        mask = Mask(ratio, plan.seed)
        conditions = conditions_of(model, images, indices, mask)
        rows = plan.draw(model, conditions.repeat_interleave(plan.samples, dim=0), ids)
        keys = mask.keys(indices)
        hidden = None if keys is None else hidden_patches(model, ratio, keys)
        found.append(Drawing(ratio, hidden, rows.unflatten(0, (len(indices), plan.samples))))
    return found
