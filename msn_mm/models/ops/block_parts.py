"""What timm's transformer blocks of every kind have in common: attention, branches, layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def attentions(block: nn.Module) -> list[Any]:
    """Return the parts of a block that attend: one, several in parallel, or the block itself."""
    return [part for part in block.modules() if isinstance(getattr(part, "num_heads", None), int)]


def num_heads(vit: Any) -> int:
    """Return the attention heads of a vision transformer's first block."""
    return int(attentions(vit.blocks[0])[0].num_heads)


def branch_ends(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Give where each residual branch of a block may be dropped: a module and its attribute."""
    for part in block.modules():
        for name, _ in part.named_children():
            if name.startswith("drop_path"):
                yield part, name
