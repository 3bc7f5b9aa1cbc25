"""The iBOT loss: DINO's on CLS tokens, and the same on masked patches of the same view.

Legend: B images, V views an image, T of them targets, M masked patches, K outputs.
Source: Zhou et al. 2022, arXiv 2111.07832, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msn_mm.models.losses.centre import Centre
from msn_mm.models.losses.dino_loss import (
    DINOLoss,
    DINOTerms,
    centred_targets,
    check_temperatures,
)
from msn_mm.models.ops.precision import exact
from msn_mm.registry import MODELS


class IBOTTerms(NamedTuple):
    """The two terms, unweighted, and what the first was computed from."""

    cls: DINOTerms
    patches: Tensor
    """Scalar: cross-entropy of masked patches, a mean over those of an image, then over views and
    images; a view without masked patches counts as 0."""


def patch_loss(
    predictions: Tensor,
    targets: Tensor,
    masks: Tensor,
    *,
    centre: Tensor,
    temperature: float = 0.1,
    target_temperature: float = 0.04,
) -> Tensor:
    """Compare masked patches with what the target network sees in their place.

    Args:
        predictions: ``(M, K)`` logits of the masked patches by the trained network.
        targets: ``(M, K)`` logits of the same patches, whole, by the target network.
        masks: ``(T * B, N)`` bool; its true entries, row by row, are the M patches.
        centre: ``(K,)``, taken from the target's logits.
        temperature: Softmax temperature of the predictions.
        target_temperature: Softmax temperature of the targets.

    Returns:
        A scalar, in float32 (float64 for float64 inputs) also under autocast.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        target = centred_targets(targets, centre, target_temperature)
        scaled = exact(predictions) / temperature
        each = scaled.logsumexp(-1) - (target * scaled).sum(-1)
        counts = masks.sum(1, keepdim=True).clamp(min=1)
        weights = (masks.to(each.dtype) / counts)[masks]
        return (weights * each).sum() / len(masks)


@MODELS.register_module()
class IBOTLoss(DINOLoss):
    """The iBOT loss and its two centres as a module.

    Args:
        output_dim: K, of CLS and patches: they share a head.
        patch_target_temperature: Softmax temperature of the patches' targets.
        patch_centre_momentum: Weight of the patches' old centre.
        cls_weight: Weight of the loss on CLS tokens.
        patch_weight: Weight of the loss on masked patches.
        **dino: As for :class:`~msn_mm.models.losses.dino_loss.DINOLoss`.

    Raises:
        ValueError: As for DINOLoss, and for a negative weight.
    """

    def __init__(
        self,
        output_dim: int,
        patch_target_temperature: float = 0.04,
        patch_centre_momentum: float = 0.9,
        cls_weight: float = 1.0,
        patch_weight: float = 1.0,
        **dino: float,
    ) -> None:
        super().__init__(output_dim, **dino)
        check_temperatures(self.temperature, patch_target_temperature, "patch_target_temperature")
        if cls_weight < 0 or patch_weight < 0:
            raise ValueError(
                f"cls_weight is {cls_weight} and patch_weight {patch_weight}; "
                "they must not be negative"
            )
        self.patch_target_temperature = patch_target_temperature
        self.patch_centre = Centre(output_dim, patch_centre_momentum)
        self.cls_weight = cls_weight
        self.patch_weight = patch_weight

    def both(
        self,
        predictions: Sequence[Tensor],
        targets: Tensor,
        patches: Tensor,
        patch_targets: Tensor,
        masks: Tensor,
    ) -> IBOTTerms:
        """Return both terms; see :func:`~msn_mm.models.losses.dino_loss.dino_loss`."""
        masked = patch_loss(
            patches,
            patch_targets,
            masks,
            centre=self.patch_centre.value,
            temperature=self.temperature,
            target_temperature=self.patch_target_temperature,
        )
        return IBOTTerms(self.terms(predictions, targets), masked)

    def weigh(self, terms: IBOTTerms) -> dict[str, Tensor]:
        """Return the terms as losses to be summed: ``loss_cls`` and ``loss_patch``."""
        return {
            "loss_cls": self.cls_weight * terms.cls.cross_entropy,
            "loss_patch": self.patch_weight * terms.patches,
        }

    def forward(  # type: ignore[override]
        self,
        predictions: Sequence[Tensor],
        targets: Tensor,
        patches: Tensor,
        patch_targets: Tensor,
        masks: Tensor,
    ) -> dict[str, Tensor]:
        """As :meth:`both` -> the two weighted losses, scalars."""
        return self.weigh(self.both(predictions, targets, patches, patch_targets, masks))
