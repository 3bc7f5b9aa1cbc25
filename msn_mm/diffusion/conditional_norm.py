"""What RCDM adds to a UNet: every residual block normalises by the representation.

The representation travels with the time embedding, as ``[time | condition]``: both are
arguments of every residual block in ``diffusers``, so gradient checkpointing hands them
to a block again when it computes it anew.

Legend: B images, C channels, E width of the time embedding, F width of the condition,
D width of the representation.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ConditionalGroupNorm(nn.Module):
    """Group norm whose gain and shift are linear in a condition.

    It starts as a plain group norm, whatever the condition: the gain is 1 and the shift
    0 until training moves them. RCDM's own conditions a batch norm (arXiv 2112.09164,
    section 3); groups keep ADM's statistics, and an image's sample independent of its batch.

    Args:
        groups: Groups of channels.
        channels: C.
        width: F.
        eps: Added to the variance.
    """

    def __init__(self, groups: int, channels: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.affine = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)
        # Set by the block around it for the time of one pass.
        self.condition: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` by the condition ``(B, F)`` of the block around it.

        Raises:
            RuntimeError: Nothing has set the condition.
        """
        if self.condition is None:
            raise RuntimeError("ConditionalGroupNorm runs inside of a ConditionedBlock alone")
        gain, shift = self.affine(self.condition)[:, :, None, None].chunk(2, dim=1)
        normal = F.group_norm(features, self.groups, eps=self.eps)
        return normal * (1.0 + gain) + shift


class ConditionedBlock(nn.Module):
    """A residual block of ``diffusers`` with both of its norms conditioned.

    Args:
        block: A ``ResnetBlock2D``; its ``norm1`` and ``norm2`` are replaced.
        time_width: E.
        width: F.
    """

    def __init__(self, block: Any, time_width: int, width: int) -> None:
        super().__init__()
        for name in ("norm1", "norm2"):
            norm = getattr(block, name)
            setattr(
                block,
                name,
                ConditionalGroupNorm(norm.num_groups, norm.num_channels, width, norm.eps),
            )
        self.block = block
        self.time_width = time_width

    def forward(self, hidden: Tensor, temb: Tensor) -> Tensor:
        """Run the block on ``(B, C, H, W)``, told time and condition ``(B, E + F)``."""
        time, condition = temb[:, : self.time_width], temb[:, self.time_width :]
        norms = (self.block.norm1, self.block.norm2)
        for norm in norms:
            norm.condition = condition
        try:
            return self.block(hidden, time)
        finally:
            # No graph outlives the pass.
            for norm in norms:
                norm.condition = None


class WidenedTime(nn.Module):
    """A time embedding followed by zeros, in whose place the condition is added.

    Args:
        embedding: From sinusoids to ``(B, E)``.
        width: F.
    """

    def __init__(self, embedding: nn.Module, width: int) -> None:
        super().__init__()
        self.embedding, self.width = embedding, width

    def forward(self, sinusoids: Tensor) -> Tensor:
        """Return ``(B, E + F)``."""
        return F.pad(self.embedding(sinusoids), (0, self.width))


class Condition(nn.Module):
    """A linear map of the representation, behind zeros in whose place the time is added.

    Args:
        representation_width: D.
        time_width: E.
        width: F.
    """

    def __init__(self, representation_width: int, time_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(representation_width, width)
        self.time_width = time_width

    def forward(self, representations: Tensor) -> Tensor:
        """``(B, D)`` -> ``(B, E + F)``."""
        return F.pad(self.linear(representations), (self.time_width, 0))


def condition_blocks(module: nn.Module, kind: type[nn.Module], time_width: int, width: int) -> int:
    """Put a :class:`ConditionedBlock` around every residual block below a module.

    Args:
        module: Changed in place.
        kind: The class of residual blocks.
        time_width: E.
        width: F.

    Returns:
        The number of blocks.
    """
    count = 0
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, ConditionedBlock(child, time_width, width))
            count += 1
        else:
            count += condition_blocks(child, kind, time_width, width)
    return count
