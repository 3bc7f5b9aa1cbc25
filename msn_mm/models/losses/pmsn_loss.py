"""The PMSN loss: MSN whose prototypes are to be used as a prior says, not all alike.

Legend: K prototypes, P projection width.
Source: Assran et al. 2022, The Hidden Uniform Cluster Prior in Self-Supervised
Learning, arXiv 2210.07277, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.losses.msn_loss import MSNLoss
from msn_mm.registry import MODELS


def power_law(prototypes: int, exponent: float) -> Tensor:
    """Log of the prior p_k ~ k^-exponent, k = 1..K; ``(K,)``, float64. Exponent 0 is uniform."""
    weights = -exponent * torch.arange(1, prototypes + 1, dtype=torch.float64).log()
    return weights.log_softmax(0)


@MODELS.register_module()
class PMSNLoss(MSNLoss):
    """The MSN loss with KL(mean prediction || prior) in place of the entropy term.

    Everything else, and the formula for the uniform prior, is :class:`MSNLoss`'s.
    Sinkhorn, which is off by default, balances the targets by the prior too:
    to the uniform marginals it would pull against it.

    Args:
        anchor_temperature: Softmax temperature of the anchor predictions.
        target_temperature: Softmax temperature of the targets; must be smaller.
        me_max_weight: Weight lambda of the divergence, which takes the place of the
            mean-entropy term.
        sinkhorn_iterations: Sinkhorn iterations on the targets; 0 for none.
        exponent: tau of the power law k^-tau, over the prototypes' numbers.
        prior: K positive numbers instead, of any sum.

    Raises:
        ValueError: As :class:`MSNLoss`; an exponent that is negative or not
            finite, or a prior with a number that is not positive and finite.
    """

    def __init__(
        self,
        anchor_temperature: float = 0.1,
        target_temperature: float = 0.025,
        me_max_weight: float = 1.0,
        sinkhorn_iterations: int = 0,
        exponent: float = 0.25,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__(anchor_temperature, target_temperature, me_max_weight, sinkhorn_iterations)
        if not 0 <= exponent < math.inf:
            raise ValueError(f"exponent is {exponent}; a power law k^-exponent needs 0 or more")
        if prior is not None and not all(0 < share < math.inf for share in prior):
            raise ValueError("prior has a number that is not positive and finite")
        self.exponent = exponent
        self.prior = None if prior is None else tuple(float(share) for share in prior)

    def log_prior(self, prototypes: Tensor) -> Tensor:
        """``(K, P)`` prototypes -> ``(K,)`` log of their prior, at least float32.

        Raises:
            UserError: The given prior has another length than K.
        """
        count = len(prototypes)
        if self.prior is None:
            log_prior = power_law(count, self.exponent)
        elif len(self.prior) != count:
            raise UserError(
                f"model.loss.prior has {len(self.prior)} numbers for {count} prototypes; give one "
                "a prototype"
            )
        else:
            log_prior = torch.tensor(self.prior, dtype=torch.float64).log().log_softmax(0)
        dtype = torch.float64 if prototypes.dtype == torch.float64 else torch.float32
        return log_prior.to(prototypes.device, dtype)
