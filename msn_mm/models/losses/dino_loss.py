"""The DINO loss: every view predicts the centred, sharpened target of every other view.

Legend: B images, V views an image, T of them targets, K outputs.
Source: Caron et al. 2021, arXiv 2104.14294, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from msn_mm.models.losses.centre import Centre
from msn_mm.models.ops.distributed import all_reduce_sum, world_size
from msn_mm.models.ops.precision import exact
from msn_mm.registry import MODELS


class DINOTerms(NamedTuple):
    """The loss and what it was computed from."""

    cross_entropy: Tensor
    """Scalar: mean over images and pairs of views of H(target, prediction)."""
    log_mean_prediction: Tensor
    """``(K,)`` log of the mean prediction over views, images and ranks, without gradient."""
    targets: Tensor
    """``(T * B, K)`` targets of this rank, without gradient; each row sums to 1."""


@torch.no_grad()
def centred_targets(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """``(N, K)`` target logits and the centre ``(K,)`` -> ``(N, K)`` targets, rows summing to 1."""
    return torch.softmax((exact(logits) - centre) / temperature, dim=-1)


def dino_loss(
    predictions: Sequence[Tensor],
    targets: Tensor,
    *,
    centre: Tensor,
    temperature: float = 0.1,
    target_temperature: float = 0.04,
) -> DINOTerms:
    """Compute the mean cross-entropy over all pairs of a target and another view.

    A view's loss is linear in its targets, so the targets of a view are summed
    before they meet it: of the T V - T pairs none is ever written out, and what
    is kept beside the logits is V times ``(B, K)``.

    Args:
        predictions: Logits ``(B, K)`` of each of the V views by the trained network, the
            T target views first.
        targets: Logits ``(T * B, K)`` of the target views by the target network,
            view-major; gets no gradient.
        centre: ``(K,)``, taken from the target's logits.
        temperature: Softmax temperature of the predictions.
        target_temperature: Softmax temperature of the targets.

    Returns:
        The terms, in float32 (float64 for float64 inputs) also under autocast.

    Raises:
        ValueError: If there are no two views, or their numbers of images differ.
    """
    batch, views = predictions[0].shape[0], len(predictions)
    count = targets.shape[0] // batch
    if views < 2 or not 1 <= count <= views or targets.shape[0] != count * batch:
        raise ValueError(
            f"{targets.shape[0]} targets for {views} views of {batch} images: DINO needs two views "
            "or more, of which the first are the targets"
        )
    with torch.autocast(targets.device.type, enabled=False):
        target = centred_targets(targets, centre, target_temperature)
        per_view = target.unflatten(0, (count, batch))
        together = per_view.sum(0)
        total = targets.new_zeros((), dtype=target.dtype)
        mean_prediction = torch.zeros_like(centre, dtype=target.dtype)
        for number, logits in enumerate(predictions):
            own = number < count
            wanted = together - per_view[number] if own else together
            scaled = exact(logits) / temperature
            normaliser = scaled.logsumexp(-1, keepdim=True)
            pairs = count - 1 if own else count
            total = total + (pairs * normaliser.squeeze(-1) - (wanted * scaled).sum(-1)).mean()
            with torch.no_grad():
                mean_prediction += (scaled - normaliser).exp().mean(0)
        mean_prediction = all_reduce_sum(mean_prediction) / (views * world_size())
        tiny = torch.finfo(mean_prediction.dtype).tiny
        log_mean = mean_prediction.clamp_min(tiny).log()
    return DINOTerms(total / (count * (views - 1)), log_mean, target)


@MODELS.register_module()
class DINOLoss(nn.Module):
    """The DINO loss and its centre as a module.

    Args:
        output_dim: K.
        temperature: Softmax temperature of the predictions.
        target_temperature: Softmax temperature of the targets, the smaller one;
            :class:`~msn_mm.engine.hooks.target_temperature_hook.TargetTemperatureHook`
            may change it over training.
        centre_momentum: Weight of the old centre.

    Raises:
        ValueError: For temperatures that are not positive or targets that are not
            sharper than predictions.
    """

    def __init__(
        self,
        output_dim: int,
        temperature: float = 0.1,
        target_temperature: float = 0.04,
        centre_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        check_temperatures(temperature, target_temperature, "target_temperature")
        self.temperature = temperature
        self.target_temperature = target_temperature
        self.centre = Centre(output_dim, centre_momentum)

    def terms(self, predictions: Sequence[Tensor], targets: Tensor) -> DINOTerms:
        """Return the loss and statistics; see :func:`dino_loss`."""
        return dino_loss(
            predictions,
            targets,
            centre=self.centre.value,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
        )

    def forward(self, predictions: Sequence[Tensor], targets: Tensor) -> dict[str, Tensor]:
        """V times ``(B, K)`` and ``(T * B, K)`` logits -> ``loss_dino``, a scalar."""
        return {"loss_dino": self.terms(predictions, targets).cross_entropy}


def check_temperatures(temperature: float, target: float, name: str) -> None:
    """Raise ``ValueError`` unless ``0 < target < temperature``."""
    if not (0.0 < target < temperature and math.isfinite(temperature)):
        raise ValueError(
            f"{name} is {target} and temperature {temperature}: both must be positive, and the "
            "targets sharper than the predictions"
        )
