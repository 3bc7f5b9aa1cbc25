"""The last block of a vision transformer and a linear head, trained by themselves.

Legend: B images, T tokens of an image (CLS first), D width, K classes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.block_parts import branch_ends
from msn_mm.models.ops.cls_block import cls_after
from msn_mm.models.ops.stochastic_depth import (
    KeyedDropPath,
    draw_gates,
    without_stochastic_depth_,
)

_WEIGHT_STD = 0.01


class LastBlockClassifier(nn.Module):
    """A copy of a trunk's last block and final norm under a linear head on the CLS token.

    What comes before is no part of it: it reads the tokens that the frozen blocks
    give, :meth:`~msn_mm.models.MaskedViT.tokens_before_last`. The head starts from
    N(0, 0.01), its bias at 0. Under autocast the norm and the head keep the precision
    of their weights.

    Args:
        trunk: Where the block and the norm are copied from; it stays as it is.
        num_classes: K.
        drop_path: Probability to drop each of the block's branches for an image.
        seed: Seed of the head's first weights.

    Source: partial fine-tuning of He et al. 2021, arXiv 2111.06377, section 4.3, which
    appendices C.2 and E.3 of arXiv 2204.07141 take up with a single block.
    """

    def __init__(
        self, trunk: MaskedViT, num_classes: int, drop_path: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__()
        self.block = copy.deepcopy(trunk.vit.blocks[-1])
        self.norm = copy.deepcopy(trunk.vit.norm)
        self.head = nn.Linear(trunk.embed_dim, num_classes)
        nn.init.normal_(
            self.head.weight, std=_WEIGHT_STD, generator=torch.Generator().manual_seed(seed)
        )
        nn.init.zeros_(self.head.bias)
        self.head.to(next(self.block.parameters()).device)
        # The trunk may have been built with any rate, or none.
        ends = list(branch_ends(self.block))
        self._paths = [KeyedDropPath(drop_path, index) for index in range(len(ends))]
        for (owner, name), path in zip(ends, self._paths, strict=True):
            setattr(owner, name, path)
        self.requires_grad_(True)

    def forward(self, tokens: Tensor, keys: Tensor | None = None) -> Tensor:
        """Classify.

        Args:
            tokens: ``(B, T, D)``.
            keys: ``(B,)`` int64. Stochastic depth is a function of them; it is drawn
                in training mode only, and not without keys.

        Returns:
            ``(B, K)`` logits.
        """
        gates = None
        if self.training and keys is not None:
            gates = draw_gates([path.rate for path in self._paths], len(tokens), keys, keys.device)
        for path in self._paths:
            path.gate = None if gates is None else gates[path.index]
        cls = cls_after(self.block, tokens)
        with torch.autocast(cls.device.type, enabled=False):
            return self.head(self.norm(cls.to(self.head.weight.dtype)))

    def get_layer_depth(self, name: str) -> tuple[int, int]:
        """Return the layer of a parameter and how many there are: the block, then the rest."""
        return (0 if name.startswith("block.") else 1), 2


def freeze_before_last_(trunk: nn.Module, blocks: int) -> None:
    """Leave a trunk's last blocks and its final norm to train; what comes before stays as it is.

    The frozen part drops nothing in training, neither branches nor numbers, and nothing of it is
    kept for a backward pass.

    Args:
        trunk: Changed in place.
        blocks: How many.

    Raises:
        UserError: It has no blocks, or not so many.
    """
    vit = trunk_with_blocks(trunk).vit
    depth = len(vit.blocks)
    if isinstance(blocks, bool) or not isinstance(blocks, int) or not 1 <= blocks <= depth:
        raise UserError(
            f"model.trained_blocks is {blocks!r:.60}; the backbone has 1 to {depth} blocks to "
            "train, and None trains all of it"
        )
    trunk.requires_grad_(False)
    for module in (*vit.blocks[depth - blocks :], vit.norm):
        module.requires_grad_(True)
    for part in (vit.pos_drop, *vit.blocks[: depth - blocks]):
        without_stochastic_depth_(part)
        for module in part.modules():
            if isinstance(module, nn.Dropout):  # of attention too, whose rate alone is read
                module.p = 0.0


def trunk_with_blocks(trunk: nn.Module) -> MaskedViT:
    """Return a trunk whose last block can be taken off.

    Raises:
        UserError: It is no :class:`~msn_mm.models.MaskedViT`.
    """
    if isinstance(trunk, MaskedViT):
        return trunk
    raise UserError(
        f"backbone {type(trunk).__name__} has no last block to fine-tune by itself; partial "
        "fine-tuning wants type='MaskedViT' (any timm ViT by name)"
    )
