"""The MSN loss: match anchors to targets over prototypes, keep all prototypes in use.

Legend: B images, V anchor views an image, P projection width, K prototypes.
Source: Assran et al. 2022, arXiv 2204.07141, section 3 and appendices C.1 and D.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msn_mm.models.ops.distributed import logsumexp_over_ranks, world_size
from msn_mm.models.ops.sinkhorn import sinkhorn
from msn_mm.models.ops.statistics import divergence
from msn_mm.registry import MODELS


class MSNTerms(NamedTuple):
    """The two terms of the loss and what they were computed from."""

    cross_entropy: Tensor
    """Scalar: mean over views and images of H(target, anchor prediction)."""
    me_max: Tensor
    """Scalar, unweighted: KL(mean prediction || prior); for the uniform prior ln K - H(mean
    prediction), zero when all prototypes are used alike."""
    log_mean_prediction: Tensor
    """``(K,)`` log of the mean anchor prediction over views, images and ranks."""
    targets: Tensor
    """``(B, K)`` targets of this rank, without gradient; each row sums to 1."""


def log_predictions(projections: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """``(N, P)`` projections, ``(K, P)`` prototypes -> ``(N, K)`` log-softmax of cosines / t."""
    cosines = F.normalize(projections, dim=1) @ F.normalize(prototypes, dim=1).T
    return F.log_softmax(cosines / temperature, dim=1)


def msn_loss(
    anchors: Tensor,
    targets: Tensor,
    prototypes: Tensor,
    *,
    anchor_temperature: float = 0.1,
    target_temperature: float = 0.025,
    sinkhorn_iterations: int = 3,
    log_prior: Tensor | None = None,
) -> MSNTerms:
    """Compute both terms of the MSN loss over the joint batch of all ranks.

    Args:
        anchors: ``(V * B, P)`` projections of the anchor views, view-major.
        targets: ``(B, P)`` projections of the target views; gets no gradient.
        prototypes: ``(K, P)``; gets gradient through the anchors only.
        anchor_temperature: Softmax temperature of the anchors.
        target_temperature: Softmax temperature of the targets, the smaller one (sharpening).
        sinkhorn_iterations: 0 switches Sinkhorn normalisation of the targets off.
        log_prior: ``(K,)`` log of the share of images that each prototype is to get;
            ``None``: 1/K, as in the paper.

    Returns:
        The terms, in float32 (float64 for float64 inputs) also under autocast.
        Under ``DistributedDataParallel`` their gradients equal those of one
        process on the joint batch.

    Raises:
        ValueError: If the number of anchors is not a multiple of the number of targets.
    """
    batch = targets.shape[0]
    if batch == 0 or anchors.shape[0] % batch != 0:
        raise ValueError(
            f"{anchors.shape[0]} anchors for {batch} targets: the anchors must be V views "
            "of each target, stacked view by view"
        )
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, targets, prototypes = (
            x if x.dtype == torch.float64 else x.float() for x in (anchors, targets, prototypes)
        )
        with torch.no_grad():
            log_target = log_predictions(targets, prototypes, target_temperature)
            if sinkhorn_iterations > 0:
                log_target = sinkhorn(log_target, sinkhorn_iterations, log_prior)
            target = log_target.exp()
        log_prediction = log_predictions(anchors, prototypes, anchor_temperature)
        views = anchors.shape[0] // batch
        per_view = log_prediction.unflatten(0, (views, batch))
        cross_entropy = -(target * per_view).sum(-1).mean()
        joint = math.log(anchors.shape[0] * world_size())
        log_mean_prediction = logsumexp_over_ranks(log_prediction, dim=0) - joint
        me_max = divergence(log_mean_prediction, log_prior)
    return MSNTerms(cross_entropy, me_max, log_mean_prediction, target)


@MODELS.register_module()
class MSNLoss(nn.Module):
    """The MSN loss as a module.

    Args:
        anchor_temperature: Softmax temperature of the anchor predictions.
        target_temperature: Softmax temperature of the targets; must be smaller.
        me_max_weight: Weight lambda of the mean-entropy-maximisation term.
        sinkhorn_iterations: Sinkhorn iterations on the targets; 0 for none.

    Raises:
        ValueError: For a temperature that is not positive, targets that are not
            sharper than anchors (assumption 1 of appendix D), a negative weight
            or a negative number of iterations.
    """

    def __init__(
        self,
        anchor_temperature: float = 0.1,
        target_temperature: float = 0.025,
        me_max_weight: float = 1.0,
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__()
        if anchor_temperature <= 0 or target_temperature <= 0:
            raise ValueError(
                f"temperatures are {anchor_temperature} (anchor) and {target_temperature} "
                "(target); both must be positive"
            )
        if target_temperature >= anchor_temperature:
            raise ValueError(
                f"target_temperature {target_temperature} is not below anchor_temperature "
                f"{anchor_temperature}: the targets must be sharper than the anchors"
            )
        if me_max_weight < 0:
            raise ValueError(f"me_max_weight is {me_max_weight}; it must not be negative")
        if sinkhorn_iterations < 0:
            raise ValueError(f"sinkhorn_iterations is {sinkhorn_iterations}; 0 switches it off")
        self.anchor_temperature = anchor_temperature
        self.target_temperature = target_temperature
        self.me_max_weight = me_max_weight
        self.sinkhorn_iterations = sinkhorn_iterations

    def terms(self, anchors: Tensor, targets: Tensor, prototypes: Tensor) -> MSNTerms:
        """Return the unweighted terms and statistics; see :func:`msn_loss`."""
        return msn_loss(
            anchors,
            targets,
            prototypes,
            anchor_temperature=self.anchor_temperature,
            target_temperature=self.target_temperature,
            sinkhorn_iterations=self.sinkhorn_iterations,
            log_prior=self.log_prior(prototypes),
        )

    def log_prior(self, prototypes: Tensor) -> Tensor | None:
        """``(K, P)`` prototypes -> ``(K,)`` log of their prior; ``None``: uniform."""
        return None

    def weigh(self, terms: MSNTerms) -> dict[str, Tensor]:
        """Return the terms as losses to be summed: ``loss_msn`` and ``loss_me_max``."""
        return {
            "loss_msn": terms.cross_entropy,
            "loss_me_max": self.me_max_weight * terms.me_max,
        }

    def forward(self, anchors: Tensor, targets: Tensor, prototypes: Tensor) -> dict[str, Tensor]:
        """``(V * B, P)``, ``(B, P)``, ``(K, P)`` -> the two weighted losses, scalars."""
        return self.weigh(self.terms(anchors, targets, prototypes))
