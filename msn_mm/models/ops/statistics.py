"""How far a run is from collapse, in numbers (appendix D made visible)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def batch_statistics(
    cross_entropy: Tensor, log_mean_prediction: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """Scalars of a step that are cheap enough to log at every step.

    Args:
        cross_entropy: Scalar.
        log_mean_prediction: ``(K,)``.
        targets: ``(B, K)``, each row summing to 1.

    Returns:
        ``mean_entropy``: H(mean prediction) / ln K, 1 when all prototypes are
        used alike; ``ce_over_ln_k``: cross-entropy / ln K, which sits at 1 when
        predictions are uniform; ``target_confidence``: mean over images of the
        largest target probability.
    """
    ln_k = math.log(log_mean_prediction.numel())
    return {
        "mean_entropy": entropy(log_mean_prediction) / ln_k,
        "ce_over_ln_k": cross_entropy.detach() / ln_k,
        "target_confidence": targets.amax(dim=1).mean(),
    }


def entropy(log_probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats, from ``(K,)`` log probabilities, differentiable.

    In log space the gradient stays finite where a probability underflows to 0.
    """
    return -(log_probabilities.exp() * log_probabilities).sum()


def divergence(log_probabilities: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """KL(p || prior) in nats, differentiable; zero where p is the prior.

    Against the uniform prior that is ln K - H(p), the mean-entropy term of MSN.

    Args:
        log_probabilities: ``(K,)`` log of p.
        log_prior: ``(K,)``; ``None``: uniform.
    """
    if log_prior is None:
        return math.log(log_probabilities.numel()) - entropy(log_probabilities)
    return -(log_probabilities.exp() * log_prior).sum() - entropy(log_probabilities)


@torch.no_grad()
def prototypes_in_use(mean_prediction: Tensor, share: float = 0.1) -> int:
    """Count prototypes whose mean prediction is at least ``share`` of the uniform 1/K.

    Args:
        mean_prediction: ``(K,)``, summing to 1.
        share: Fraction of 1/K below which a prototype counts as unused.
    """
    return int((mean_prediction * mean_prediction.numel() >= share).sum())


@torch.no_grad()
def rank_me(representations: Tensor, epsilon: float = 1e-7) -> float:
    """Effective rank of a batch of representations.

    exp of the entropy of the normalised singular values; between 1 (all on one
    line) and min(B, D). Source: Garrido et al. 2023, arXiv 2210.02885, equation 1.

    Args:
        representations: ``(B, D)``.
        epsilon: Added to each normalised singular value, as in the source.
    """
    # Singular values of a batch need no GPU and no low precision.
    values = torch.linalg.svdvals(representations.detach().float().cpu())
    p = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


@torch.no_grad()
def feature_std(representations: Tensor) -> float:
    """Standard deviation over the batch of each L2-normalised coordinate, averaged, times sqrt(D).

    ``(B, D)`` -> about 1 for directions spread evenly, 0 when all images have
    the same representation. Source: Chen & He 2021, arXiv 2011.10566, section 4.1.
    """
    z = torch.nn.functional.normalize(representations.detach().float(), dim=1)
    return float(z.std(dim=0).mean()) * math.sqrt(z.shape[1])
