"""MSN's training step as one writes it down first: what train_step.py compares with.

timm's ViT, torch's layers and optimizer, float32, nothing fused or compiled; the
published recipe (arXiv 2204.07141) with the released code's one mask for the batch.

Legend: B images, V focal views an image, D representation width, P projection width,
K prototypes.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainMSN(nn.Module):
    """Trained network, its moving average, and prototypes.

    Args:
        vit: Arguments of ``timm.create_model``.
        hidden_dim: Width of the projector's hidden layers.
        output_dim: P.
        num_prototypes: K.
        mask_ratio: Share of patches that the masked anchor drops.
    """

    def __init__(
        self,
        vit: dict[str, Any],
        hidden_dim: int,
        output_dim: int,
        num_prototypes: int,
        mask_ratio: float,
    ) -> None:
        super().__init__()
        self.vit = timm.create_model(**vit, num_classes=0, dynamic_img_size=True)
        self.projector = nn.Sequential(
            nn.Linear(self.vit.embed_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, output_dim),
        )
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, output_dim) * output_dim**-0.5)
        self.target_vit = copy.deepcopy(self.vit).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.mask_ratio = mask_ratio

    def encode(self, vit: nn.Module, images: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """``(B, C, S, S)`` -> CLS ``(B, D)`` after the final norm."""
        patch = vit.patch_embed.patch_size[0]
        side = images.shape[-1] // patch * patch
        tokens = vit._pos_embed(vit.patch_embed(images[..., :side, :side]))
        if mask_ratio:
            patches = tokens.shape[1] - 1
            kept = torch.randperm(patches, device=images.device)
            kept = kept[: math.floor(patches * (1 - mask_ratio))] + 1
            tokens = torch.cat([tokens[:, :1], tokens[:, kept]], dim=1)
        return vit.norm(vit.blocks(tokens))[:, 0]

    def loss(self, target: Tensor, anchor: Tensor, focal: Tensor) -> Tensor:
        """Return the loss of a batch: images ``(B, ...)``, ``(B, ...)`` and ``(V * B, ...)``."""
        with torch.no_grad():
            wanted = self.target_projector(self.encode(self.target_vit, target))
        projected = [
            self.projector(self.encode(self.vit, anchor, self.mask_ratio)),
            self.projector(self.encode(self.vit, focal)),
        ]
        prototypes = F.normalize(self.prototypes, dim=1)
        predicted = F.log_softmax(F.normalize(torch.cat(projected), dim=1) @ prototypes.T / 0.1, 1)
        with torch.no_grad():
            shares = F.softmax(F.normalize(wanted, dim=1) @ prototypes.T / 0.025, dim=1)
            for _ in range(3):
                shares = shares / shares.sum(0, keepdim=True) / shares.shape[1]
                shares = shares / shares.sum(1, keepdim=True)
        views = len(predicted) // len(shares)
        cross_entropy = -(shares.repeat(views, 1) * predicted).sum(1).mean()
        mean = predicted.exp().mean(0)
        return cross_entropy + math.log(len(mean)) + (mean * mean.log()).sum()

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target's parameters towards the trained ones."""
        for trained, target in (
            (self.vit, self.target_vit),
            (self.projector, self.target_projector),
        ):
            for source, average in zip(trained.parameters(), target.parameters(), strict=True):
                average.mul_(momentum).add_(source, alpha=1 - momentum)
