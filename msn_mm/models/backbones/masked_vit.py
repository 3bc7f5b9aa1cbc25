"""A vision transformer that computes on the kept patches of each image only.

Legend: B images, C channels, N patches of an image, M kept ones, D width.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msn_mm.errors import UserError
from msn_mm.models.backbones.timm_vit import build_vit, check_vit_settings, key_drop_paths
from msn_mm.models.ops.cls_block import cls_after, let_answer_for_cls_
from msn_mm.models.ops.compiled_blocks import compile_blocks_
from msn_mm.models.ops.masking import gather_tokens, num_kept, random_keep
from msn_mm.models.ops.patches import embed_patches
from msn_mm.models.ops.position import Grid, Resampling, resample_positions
from msn_mm.models.ops.stochastic_depth import KeyedDropPath, draw_gates
from msn_mm.registry import MODELS


@MODELS.register_module()
class MaskedViT(nn.Module):
    """timm's ``VisionTransformer`` that drops masked tokens before its first block.

    The network is timm's own, so any of its ViT names or explicit sizes work and its
    weights load; attention runs through timm's ``scaled_dot_product_attention``. Where
    CLS tokens are all that is asked for, the last block is computed for them alone.

    Args:
        name: A timm model name whose class is ``VisionTransformer`` and that has a CLS token.
        img_size: Side in pixels that the learned positions belong to. Images of
            any other size get positions resampled from it.
        patch_size: Side of a patch in pixels; None leaves the named model's own.
        in_chans: C.
        drop_path_rate: Stochastic depth, growing linearly with depth up to this rate.
        checkpointing: Recompute each block in the backward pass: less memory, more time.
        compile: Run the blocks by ``torch.compile`` in training, one graph a shape of the
            tokens, none for a last block of CLS alone; a name is that of another backend.
        resampling: How positions get to another grid: as ``scale`` (MSN), ``dino`` or
            ``timm`` do; see :func:`~msn_mm.models.ops.position.resampling_matrix`.
        norm_eps: Epsilon of all layer norms; None leaves the named model's own, 1e-6.
        **vit_args: Further arguments of ``VisionTransformer`` (``embed_dim``,
            ``depth``, ``num_heads``, ``mlp_ratio``, ...).

    Raises:
        UserError: For an unknown name, a model that cannot drop tokens, or
            sizes that do not fit each other.
    """

    def __init__(
        self,
        name: str = "vit_small_patch16_224",
        img_size: int = 224,
        patch_size: int | None = None,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        checkpointing: bool = False,
        compile: bool | str = False,
        resampling: Resampling = "scale",
        norm_eps: float | None = None,
        **vit_args: Any,
    ) -> None:
        super().__init__()
        told: dict[str, Any] = dict(img_size=img_size, patch_size=patch_size, in_chans=in_chans)
        told |= dict(name=name, norm_eps=norm_eps, drop_path_rate=drop_path_rate, **vit_args)
        check_vit_settings(told)
        if resampling not in get_args(Resampling):
            known = ", ".join(get_args(Resampling))
            raise UserError(f"the backbone's resampling is '{resampling}'; there are {known}")
        if patch_size is not None:
            vit_args["patch_size"] = patch_size
        self.vit = build_vit(
            name,
            dict(img_size=img_size, in_chans=in_chans, drop_path_rate=drop_path_rate, **vit_args),
        )
        if norm_eps is not None:
            for module in self.vit.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = norm_eps
        self.checkpointing = checkpointing
        self.resampling: Resampling = resampling
        self.in_chans = in_chans
        self.embed_dim: int = self.vit.embed_dim
        self.patch_size: Grid = tuple(self.vit.patch_embed.patch_size)
        self.grid: Grid = tuple(self.vit.patch_embed.grid_size)
        if min(self.grid) < 1:
            raise UserError(
                f"patch_size {self.patch_size[0]} is larger than img_size {img_size}; "
                "lower the patch size or raise the image size"
            )
        self._branches = key_drop_paths(self.vit)
        let_answer_for_cls_(self.vit.blocks)
        if compile:
            compile_blocks_(self.vit.blocks, compile if isinstance(compile, str) else "inductor")

    def grid_of(self, height: int, width: int) -> Grid:
        """Patches of an image: (rows, columns); what the patch size does not divide is cut off.

        Raises:
            UserError: If the image is smaller than one patch.
        """
        rows, columns = height // self.patch_size[0], width // self.patch_size[1]
        if rows < 1 or columns < 1:
            raise UserError(
                f"patch_size {self.patch_size[0]} is larger than a view of {height} x {width} "
                "pixels; lower the patch size or raise the size of the view"
            )
        return rows, columns

    def num_tokens(self, size: int, mask_ratio: float = 0.0) -> int:
        """Tokens that the blocks see of an image of ``size`` x ``size`` pixels, CLS included."""
        rows, columns = self.grid_of(size, size)
        return num_kept(rows * columns, mask_ratio) + self.vit.num_prefix_tokens

    def forward(
        self,
        images: Tensor,
        mask_ratio: float = 0.0,
        keep: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Encode images.

        Args:
            images: ``(B, C, H, W)``, normalised; any H and W of at least a patch.
            mask_ratio: Share of patches to drop, another random set for each image.
            keep: ``(B, M)`` int64 patch indices to keep, instead of random ones.
            keys: ``(B,)`` int64. Masks and stochastic depth are then functions
                of the keys; without them they come from torch's generator.

        Returns:
            ``(B, D)``: the CLS token after the final norm.
        """
        return self.forward_cls(images, mask_ratio=mask_ratio, keep=keep, keys=keys)[0]

    def forward_cls(
        self,
        images: Tensor,
        blocks: int = 1,
        norm: bool = True,
        mask_ratio: float = 0.0,
        keep: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> list[Tensor]:
        """Return the CLS tokens of the last blocks, ``(B, D)`` each, the last one last.

        Arguments and errors are those of :meth:`forward_intermediates`, whose CLS tokens
        they equal up to rounding, without what the last block spends on patches: a
        sixteenth of a ViT-S's or ViT-B's work. With dropout they are another draw.
        """
        x = self._embed(images, mask_ratio, keep, keys)
        outputs = self._run_blocks(x, keys, blocks, cls_only=True)
        return [self.vit.norm(cls) if norm else cls for cls in outputs]

    def forward_intermediates(
        self,
        images: Tensor,
        blocks: int = 1,
        norm: bool = True,
        mask_ratio: float = 0.0,
        keep: Tensor | None = None,
        keys: Tensor | None = None,
        replaced: tuple[Tensor, Tensor] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the tokens of the last blocks, the last one last.

        Args:
            images: ``(B, C, H, W)``, normalised.
            blocks: How many blocks, counted from the end.
            norm: Apply the final norm to each block's output.
            mask_ratio: As in :meth:`forward`.
            keep: As in :meth:`forward`.
            keys: As in :meth:`forward`.
            replaced: ``(B, N)`` bool, and the token ``(1, D)`` that takes the place of those
                patches' embeddings, before positions are added.

        Returns:
            A pair for each block: CLS ``(B, D)`` and patch tokens ``(B, M, D)``.

        Raises:
            ValueError: If the model does not have that many blocks.
        """
        x = self._embed(images, mask_ratio, keep, keys, replaced)
        outputs = self._run_blocks(x, keys, blocks)
        outputs = [self.vit.norm(x) if norm else x for x in outputs]
        return [(x[:, 0], x[:, self.vit.num_prefix_tokens :]) for x in outputs]

    def tokens_before_last(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return what the last block is given, for a training of that block or a look at it.

        Args:
            images: ``(B, C, H, W)``, normalised.
            keep: As in :meth:`forward`.

        Returns:
            ``(B, T, D)``: CLS, registers where there are any, and the patches.
        """
        x = self._embed(images, 0.0, keep, None)
        for block in self.vit.blocks[:-1]:
            x = block(x)
        return x

    def get_layer_depth(self, name: str, prefix: str = "") -> tuple[int, int]:
        """Return the layer of a parameter and the number of layers, for layer-wise decay.

        Layer 0 is what comes before the blocks, layer i the i-th block counted from 1,
        the last one the final norm and whatever follows.

        Args:
            name: Name of a parameter, with ``prefix`` before it if it is the backbone's.
            prefix: Name of the backbone in its model, with a dot.

        Source: Bao et al. 2022, arXiv 2106.08254; the form of the answer is mmpretrain's.
        """
        layers = len(self.vit.blocks) + 2
        first = prefix + "vit."
        if not name.startswith(first):
            return layers - 1, layers
        part, _, rest = name.removeprefix(first).partition(".")
        if part == "blocks":
            return int(rest.partition(".")[0]) + 1, layers
        return (layers - 1 if part in ("norm", "fc_norm") else 0), layers

    def _embed(
        self,
        images: Tensor,
        mask_ratio: float,
        keep: Tensor | None,
        keys: Tensor | None,
        replaced: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        vit = self.vit
        batch, channels, height, width = images.shape
        if channels != self.in_chans:
            raise UserError(
                f"the images have {channels} channel(s) and the backbone in_chans={self.in_chans}; "
                "make the two equal"
            )
        grid = self.grid_of(height, width)
        x = vit.patch_embed.norm(embed_patches(vit.patch_embed.proj, images))
        if replaced is not None:
            x = torch.where(replaced[0].unsqueeze(-1), replaced[1].to(x.dtype), x)
        assert vit.cls_token is not None  # checked when the model was built
        prefix = [vit.cls_token.expand(batch, -1, -1)]
        if vit.reg_token is not None:
            prefix.append(vit.reg_token.expand(batch, -1, -1))
        head = torch.cat(prefix, dim=1)
        if vit.pos_embed is not None:
            # The prefix has positions of its own unless the model says otherwise.
            split = 0 if vit.no_embed_class else vit.num_prefix_tokens
            learned = vit.pos_embed[:, split:]
            x = x + resample_positions(learned, self.grid, grid, self.resampling)
            if split:
                head = head + vit.pos_embed[:, :split]
        if keep is None and mask_ratio > 0.0:
            keep = random_keep(
                batch, grid[0] * grid[1], mask_ratio, keys=keys, device=images.device
            )
        if keep is not None:
            x = gather_tokens(x, keep)
        return vit.norm_pre(vit.pos_drop(torch.cat([head.to(x.dtype), x], dim=1)))

    def _run_blocks(
        self, x: Tensor, keys: Tensor | None, blocks: int = 1, cls_only: bool = False
    ) -> list[Tensor]:
        """Return the last ``blocks`` blocks' outputs: tokens, or the CLS token alone."""
        depth = len(self.vit.blocks)
        if not 1 <= blocks <= depth:
            raise ValueError(f"blocks is {blocks}; this model has 1 to {depth}")
        gates: Tensor | None = None
        if self.training and self._branches:
            gates = draw_gates([b.rate for b in self._branches], x.shape[0], keys, x.device)
        outputs: deque[Tensor] = deque(maxlen=blocks)
        for number, block in enumerate(self.vit.blocks, start=1):
            alone = cls_only and number == depth
            run = partial(_run_block, block, gates, alone)
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(run, x, use_reentrant=False)
            else:
                x = run(x)
            outputs.append(x[:, 0] if cls_only and not alone else x)
        return list(outputs)


def _run_block(block: nn.Module, gates: Tensor | None, cls_only: bool, x: Tensor) -> Tensor:
    if gates is not None:
        for path in block.modules():
            if isinstance(path, KeyedDropPath):
                path.gate = gates[path.index] if path.rate else None
    return cls_after(block, x) if cls_only else block(x)
