"""MSN's projector and prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.registry import MODELS


@MODELS.register_module()
class MSNHead(nn.Module):
    """A projector of three linear layers, and the prototypes it is compared with.

    Linear, batch norm, GELU; linear, batch norm, GELU; linear. Batch norm runs
    over the joint batch of all ranks. Source: Assran et al. 2022, appendix C.1.

    Args:
        in_dim: D, the encoder's width.
        hidden_dim: Width of the two hidden layers.
        output_dim: P, the width of projections and prototypes.
        num_prototypes: K. The target network has no prototypes of its own: 0.

    Raises:
        ValueError: For a width below 1 or a single prototype.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int = 2048,
        output_dim: int = 256,
        num_prototypes: int = 1024,
    ) -> None:
        super().__init__()
        for name, width in (
            ("in_dim", in_dim),
            ("hidden_dim", hidden_dim),
            ("output_dim", output_dim),
        ):
            if width < 1:
                raise ValueError(f"MSNHead's {name} is {width}; it must be at least 1")
        if num_prototypes == 1 or num_prototypes < 0:
            raise ValueError(f"num_prototypes is {num_prototypes}; MSN needs at least 2")
        self.in_dim = in_dim
        self.projector = nn.Sequential(
            nn.Linear(in_dim, hidden_dim),
            SyncBatchNorm(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            SyncBatchNorm(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, output_dim),
        )
        self.prototypes: nn.Parameter | None = None
        if num_prototypes:
            # Uniform in +-1/sqrt(P), a linear layer's usual start: only the
            # direction enters the loss, but the length sets the step size.
            bound = output_dim**-0.5
            self.prototypes = nn.Parameter(
                torch.empty(num_prototypes, output_dim).uniform_(-bound, bound)
            )
        for layer in self.projector:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, representations: Tensor) -> Tensor:
        """``(B, D)`` representations -> ``(B, P)`` projections, not normalised."""
        return self.projector(representations)
