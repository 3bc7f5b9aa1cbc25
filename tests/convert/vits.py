"""Small ViTs with random weights, and timm's own with the positions of other codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

Positions = Callable[[Tensor, int, int], Tensor]

WIDTH, DEPTH, HEADS, PATCH, SIZE = 24, 2, 3, 8, 48
ARCH = {"heads": HEADS}


def random_vit(seed: int = 0, **settings: object) -> VisionTransformer:
    """timm's ViT, every weight random: also those that start at zero or one."""
    defaults = dict(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    model = VisionTransformer(**{**defaults, **settings})  # type: ignore[arg-type]
    randomise(model, seed)
    return model.eval()


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter and running statistic a random value."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(1 + 0.3 * noise.abs())
        else:
            value.copy_(noise * (0.1 if value.ndim == 1 else 0.3))


def by_scale_factor(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Positions ``(1, D, h, w)`` as the released MSN code has them: by scale factor."""
    factor = (rows * columns / (patches.shape[2] * patches.shape[3])) ** 0.5
    if factor == 1:
        return patches
    return F.interpolate(patches, scale_factor=factor, mode="bicubic")


@torch.no_grad()
def reference_cls(model: VisionTransformer, images: Tensor, positions: Positions) -> Tensor:
    """CLS after the final norm through timm's own layers, positions resampled as told."""
    x = model.patch_embed.proj(images)
    rows, columns = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    assert model.pos_embed is not None and model.cls_token is not None
    side = round((model.pos_embed.shape[1] - 1) ** 0.5)
    learned = model.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    learned = positions(learned, rows, columns).flatten(2).transpose(1, 2)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)
    x = x + torch.cat([model.pos_embed[:, :1], learned], dim=1)
    return model.norm(model.blocks(x))[:, 0]


def images(size: int, batch: int = 3, channels: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size, generator=generator)


def relative(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())
