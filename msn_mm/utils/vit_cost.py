"""What a vision transformer costs, worked out from its shape alone.

Legend: N tokens that enter the blocks (CLS included), P patches before any is
dropped, D width, H hidden width of the MLP, L blocks, I numbers in a patch
(channels times patch area).

Forward FLOPs of one image (a multiplication and an addition count two; norms,
activations and softmax are left out)::

    2 P I D  +  L (8 N D^2 + 4 N D H + 4 N^2 D)

patch embedding; then for each block the four D x D projections of attention,
the two layers of the MLP, and the two products of attention (query with key,
weights with value). A last block that is computed for its CLS token alone takes,
in place of the L-th such term::

    6 N D^2 + 2 D^2 + 4 D H + 16 N D

queries, keys and values of all tokens, attention of four of them, the rest of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

FLOAT, BFLOAT = 4, 2


@dataclass(frozen=True)
class ViTShape:
    """Sizes of a vision transformer.

    Attributes:
        width: D.
        hidden: H.
        depth: L.
        patch_numbers: I.
    """

    width: int
    hidden: int
    depth: int
    patch_numbers: int

    @classmethod
    def of(cls, vit: Any) -> ViTShape:
        """Read the sizes of timm's ``VisionTransformer``."""
        return cls(
            width=vit.embed_dim,
            hidden=vit.blocks[0].mlp.fc1.out_features,
            depth=len(vit.blocks),
            patch_numbers=vit.patch_embed.proj.weight[0].numel(),
        )

    def block_flops(self, tokens: int, cls_only: bool = False) -> int:
        """Forward FLOPs of all blocks for one image of N tokens."""
        n, d, h = tokens, self.width, self.hidden
        whole = 8 * n * d * d + 4 * n * d * h + 4 * n * n * d
        if not cls_only:
            return self.depth * whole
        last = 6 * n * d * d + 2 * d * d + 4 * d * h + 4 * min(n, 4) * n * d
        return (self.depth - 1) * whole + last

    def forward_flops(self, tokens: int, patches: int, cls_only: bool = False) -> int:
        """Forward FLOPs for one image: see the module's formula."""
        embedding = 2 * patches * self.patch_numbers * self.width
        return embedding + self.block_flops(tokens, cls_only)

    def backward_flops(
        self, tokens: int, patches: int, checkpointing: bool = False, cls_only: bool = False
    ) -> int:
        """FLOPs of the backward pass: twice the forward's, and once more the blocks' if recomputed.

        The gradient of the pixels is not needed, so the patch embedding counts once.
        """
        embedding = 2 * patches * self.patch_numbers * self.width
        return embedding + self.block_flops(tokens, cls_only) * (3 if checkpointing else 2)

    def saved_bytes(
        self,
        tokens: int,
        patches: int,
        amp: bool = False,
        checkpointing: bool = False,
        cls_only: bool = False,
    ) -> int:
        """Bytes that the forward pass of one image keeps for the backward pass.

        Each block keeps for each token: the inputs of two norms (2 D, fp32), the
        inputs of the query-key-value layer and of the MLP, query, key, value and
        attention's output, which the projection shares (6 D), and the inputs of
        the activation and of the MLP's second layer (2 H). The last two groups
        are half as wide under autocast. Fused attention keeps no N x N matrix.
        A last block for CLS alone keeps for each token the input of one norm, that of
        the query-key-value layer and what it gives, and of the final norm one token.
        With checkpointing a block keeps its input (D, fp32), and one block at a
        time everything.
        """
        wide = BFLOAT if amp else FLOAT
        block = tokens * (2 * self.width * FLOAT + (6 * self.width + 2 * self.hidden) * wide)
        pixels = patches * self.patch_numbers * wide
        final_norm = (1 if cls_only else tokens) * self.width * FLOAT
        if checkpointing:
            return pixels + final_norm + self.depth * tokens * self.width * FLOAT + block
        last = tokens * self.width * (FLOAT + 4 * wide) if cls_only else block
        return pixels + final_norm + (self.depth - 1) * block + last


def linear_flops(module: nn.Module) -> int:
    """Forward FLOPs of one row through a stack of linear layers and prototypes: 2 a weight."""
    return sum(2 * p.numel() for p in module.parameters() if p.ndim == 2)


def linear_saved_bytes(module: nn.Module) -> int:
    """Bytes that one row through such a stack keeps: each output thrice (batch norm, GELU, input).

    Counted in fp32, in which batch norm and the loss run. A column of lengths is no layer.
    """
    layers = (p for p in module.parameters() if p.ndim == 2 and p.shape[1] > 1)
    return sum(3 * p.shape[0] * FLOAT for p in layers)
