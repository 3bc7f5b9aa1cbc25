"""What a vision transformer costs, worked out from its shape alone.

Legend: N tokens that enter the blocks (CLS included), P patches before any is
dropped, D width, H hidden width of the MLP, L blocks, I numbers in a patch
(channels times patch area).  A gated MLP has 2 H' outputs before its gate and H'
after it, which stand for the H of the first and of the second layer below. Blocks
with several attentions have each term as often as the layer.

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

from msn_mm.models.ops.block_parts import attentions

FLOAT, BFLOAT = 4, 2
# timm's names: layers of a block that write to the residual stream, parts behind the blocks.
_TO_STREAM = ("proj", "fc2", "out_proj", "attn_out_proj", "mlp_out_proj")
_BEHIND = ("blocks", "norm", "fc_norm", "head")


@dataclass(frozen=True)
class ViTShape:
    """Sizes of a vision transformer.

    Attributes:
        width: D.
        hidden: H, as it leaves the MLP's first layer.
        depth: L.
        patch_numbers: I.
        gated: H as it enters the MLP's second layer, where that is another number.
        attentions: Of a block.
        frozen: Blocks at the start that no gradient reaches.
        fixed_embedding: The patch embedding is not trained.
    """

    width: int
    hidden: int
    depth: int
    patch_numbers: int
    gated: int | None = None
    attentions: int = 1
    frozen: int = 0
    fixed_embedding: bool = False

    @classmethod
    def of(cls, vit: Any) -> ViTShape:
        """Read the sizes of timm's ``VisionTransformer``, and what of it is trained."""
        width, attending = vit.embed_dim, len(attentions(vit.blocks[0]))
        layers = [(n, m) for n, m in vit.blocks[0].named_modules() if isinstance(m, nn.Linear)]
        # Whatever does not write to the residual stream: queries, keys, values, hidden units.
        inner = sum(m.out_features for n, m in layers if n.rpartition(".")[2] not in _TO_STREAM)
        hidden = inner - 3 * width * attending
        weights = sum(m.weight.numel() for _, m in layers)
        # A gradient on its way to a weight passes every block behind it.
        trained = [n.split(".") for n, p in vit.named_parameters() if p.requires_grad]
        early = any(name[0] not in _BEHIND for name in trained)
        blocks = [int(name[1]) for name in trained if name[0] == "blocks"]
        return cls(
            width=width,
            hidden=hidden,
            depth=len(vit.blocks),
            patch_numbers=vit.patch_embed.proj.weight[0].numel(),
            gated=weights // width - 4 * width * attending - hidden,
            attentions=attending,
            frozen=0 if early else min(blocks, default=len(vit.blocks)),
            fixed_embedding=not any(name[0] == "patch_embed" for name in trained),
        )

    def block_flops(self, tokens: int, cls_only: bool = False, first: int = 0) -> int:
        """Forward FLOPs of all blocks, or those from ``first`` on, for one image of N tokens."""
        n, d = tokens, self.width
        mlp = 2 * d * (self.hidden + (self.hidden if self.gated is None else self.gated))
        whole = self.attentions * (8 * n * d * d + 4 * n * n * d) + n * mlp
        if not cls_only or first >= self.depth:
            return (self.depth - first) * whole
        last = 6 * n * d * d + 2 * d * d + mlp + 4 * min(n, 4) * n * d
        return (self.depth - first - 1) * whole + last

    def forward_flops(self, tokens: int, patches: int, cls_only: bool = False) -> int:
        """Forward FLOPs for one image: see the module's formula."""
        embedding = 2 * patches * self.patch_numbers * self.width
        return embedding + self.block_flops(tokens, cls_only)

    def backward_flops(
        self, tokens: int, patches: int, checkpointing: bool = False, cls_only: bool = False
    ) -> int:
        """FLOPs of the backward pass: twice the forward's, and once more the blocks' if recomputed.

        The gradient of the pixels is not needed, so the patch embedding counts once;
        what is frozen before the first trained weight counts nothing.
        """
        embedding = 0 if self.fixed_embedding else 2 * patches * self.patch_numbers * self.width
        blocks = self.block_flops(tokens, cls_only, first=self.frozen)
        return embedding + blocks * (3 if checkpointing else 2)

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
        attention's output, which the projection shares (6 D, for each attention), and
        the inputs of the activation and of the MLP's second layer (2 H; behind a gate
        three inputs of half that width). The last two groups are half as wide under
        autocast. Fused attention keeps no N x N matrix, and a frozen block at the start
        nothing at all. A last block for CLS alone keeps for each token the input of one
        norm, that of the query-key-value layer and what it gives, and of the final norm
        one token. With checkpointing a block keeps its input (D, fp32), and one block at
        a time everything. timm's blocks with one norm for both branches, or norms behind
        them, keep up to a sixth less than this.
        """
        wide = BFLOAT if amp else FLOAT
        inner = (6 * self.attentions * self.width + 2 * self.hidden) * wide
        block = tokens * (2 * self.width * FLOAT + inner)
        kept = 0 if self.fixed_embedding else patches * self.patch_numbers * wide
        kept += (1 if cls_only else tokens) * self.width * FLOAT
        depth = self.depth - self.frozen
        if depth == 0:
            return kept
        if checkpointing:
            return kept + depth * tokens * self.width * FLOAT + block
        last = tokens * self.width * (FLOAT + 4 * wide) if cls_only else block
        return kept + (depth - 1) * block + last


def linear_flops(module: nn.Module) -> int:
    """Forward FLOPs of one row through a stack of linear layers and prototypes: 2 a weight."""
    return sum(2 * p.numel() for p in module.parameters() if p.ndim == 2)


def linear_saved_bytes(module: nn.Module) -> int:
    """Bytes that one row through such a stack keeps: each output thrice (batch norm, GELU, input).

    Counted in fp32, in which batch norm and the loss run. A column of lengths is no layer.
    """
    layers = (p for p in module.parameters() if p.ndim == 2 and p.shape[1] > 1)
    return sum(3 * p.shape[0] * FLOAT for p in layers)
