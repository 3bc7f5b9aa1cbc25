"""Attention maps against an attention that is computed by itself, step by step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.attention_maps import cls_attention
from msn_mm.models.ops.masking import random_keep

SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3)


def explicit(attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of queries and keys, and the whole output, from the weights alone."""
    batch, length, width = x.shape
    heads = attention.num_heads
    qkv = (x @ attention.qkv.weight.T + attention.qkv.bias).view(batch, length, 3, heads, -1)
    query, key, value = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    query, key = attention.q_norm(query), attention.k_norm(key)
    weights = torch.einsum("bhtd,bhsd->bhts", query, key) / (width // heads) ** 0.5
    weights = weights.exp() / weights.exp().sum(-1, keepdim=True)
    joined = torch.einsum("bhts,bhsd->bthd", weights, value).flatten(2)
    return weights, joined @ attention.proj.weight.T + attention.proj.bias


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"reg_tokens": 2}])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_weights_are_those_of_the_fused_attention(options: dict, ratio: float) -> None:
    torch.manual_seed(0)
    trunk = MaskedViT(**SIZES, **options).eval()
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 32, 32)
    keep = random_keep(2, 16, ratio, keys=torch.tensor([5, 9])) if ratio else None
    found = cls_attention(trunk, images, keep)
    assert found.shape == (2, 3, 16)
    block = trunk.vit.blocks[-1]
    x = block.norm1(trunk.tokens_before_last(images, keep))
    weights, output = explicit(block.attn, x)
    assert torch.allclose(output, block.attn(x), atol=1e-5)
    prefix = trunk.vit.num_prefix_tokens
    expected = weights[:, :, 0, prefix:]
    if keep is None:
        assert torch.allclose(found, expected, atol=1e-6)
        return
    assert torch.isnan(found).sum() == 2 * 3 * 8
    there = found.gather(2, keep.unsqueeze(1).expand(-1, 3, -1))
    assert torch.allclose(there, expected, atol=1e-6)
    assert (expected.sum(-1) < 1).all() and expected.std() > 1e-3


def test_training_keeps_the_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = MaskedViT(**SIZES)
    images = torch.randn(2, 3, 32, 32)
    cls_attention(trunk, images)
    calls = []
    fused = F.scaled_dot_product_attention

    def counted(*args: Tensor, **kwargs: object) -> Tensor:
        calls.append(args[0].shape)
        return fused(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    trunk(images).sum().backward()
    assert len(calls) == SIZES["depth"]
    assert all(block.attn.fused_attn for block in trunk.vit.blocks)


def test_an_attention_that_is_not_fused_is_refused() -> None:
    trunk = MaskedViT(**SIZES)
    trunk.vit.blocks[-1].attn.fused_attn = False
    with pytest.raises(UserError, match="TIMM_FUSED_ATTN"):
        cls_attention(trunk, torch.randn(1, 3, 32, 32))
