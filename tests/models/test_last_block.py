"""The last block by itself: the same numbers as inside the network, for the CLS token alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpretrain.models import ResNet
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.classifiers.last_block import LastBlockClassifier, trunk_with_blocks
from msn_mm.models.ops.cls_block import cls_after, saves_for_cls
from msn_mm.utils.vit_cost import ViTShape

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"init_values": 0.3},
    "no bias, scaled norms": {"qkv_bias": False, "qk_norm": True, "scale_attn_norm": True},
    "registers": {"reg_tokens": 2},
    "one block": {"depth": 1},
}


def trunk(**changes: Any) -> MaskedViT:
    torch.manual_seed(0)
    args = {"embed_dim": 24, "depth": 3, "num_heads": 3, "patch_size": 8, **changes}
    built = MaskedViT("vit_tiny_patch16_224", img_size=32, in_chans=1, **args).double().eval()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_part_and_last_block_are_the_whole_network(kind: str) -> None:
    vit = trunk(**KINDS[kind])
    images = torch.randn(3, 1, 32, 40, dtype=torch.float64)
    tokens = vit.tokens_before_last(images)
    assert tokens.shape == (3, vit.vit.num_prefix_tokens + 4 * 5, 24)
    model = LastBlockClassifier(vit, 7).double().eval()
    whole = vit.vit.norm(vit.vit.blocks[-1](tokens))[:, 0]
    torch.testing.assert_close(model.norm(cls_after(model.block, tokens)), whole)
    expected = whole @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(tokens), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_whole_block(kind: str) -> None:
    block = trunk(**KINDS[kind]).vit.blocks[-1]
    tokens = torch.randn(4, 9, 24, dtype=torch.float64)
    wanted = torch.randn(4, 24, dtype=torch.float64)

    def gradients(output: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((output * wanted).sum(), list(block.parameters())))

    for one, other in zip(
        gradients(cls_after(block, tokens)), gradients(block(tokens)[:, 0]), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_trunk_spends_nothing_on_patches_behind_the_last_block(
    kind: str, checkpointing: bool
) -> None:
    """The same output and gradients as by all tokens, for as many operations as predicted."""
    vit = trunk(**{"drop_path_rate": 0.4, **KINDS[kind]}, checkpointing=checkpointing).train()
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    wanted = torch.randn(3, 24, dtype=torch.float64)
    given: dict[str, Any] = {"mask_ratio": 0.4, "keys": torch.arange(3)}

    def gradients(cls: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((cls * wanted).sum(), list(vit.parameters())))

    with FlopCounterMode(display=False) as counter:
        alone = vit(images, **given)
    whole = vit.forward_intermediates(images, **given)[0][0]
    torch.testing.assert_close(alone, whole)
    for one, other in zip(gradients(alone), gradients(whole), strict=True):
        torch.testing.assert_close(one, other)
    forward = ViTShape.of(vit.vit).forward_flops(vit.num_tokens(32, 0.4), 16, cls_only=True)
    assert counter.get_total_flops() == 3 * forward


def test_several_blocks_for_cls_alone_are_those_of_all_tokens() -> None:
    vit = trunk()
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    for norm in (False, True):
        alone = vit.forward_cls(images, blocks=2, norm=norm)
        whole = vit.forward_intermediates(images, blocks=2, norm=norm)
        for one, (other, _) in zip(alone, whole, strict=True):
            torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="this model has 1 to 3"):
        vit.forward_cls(images, blocks=4)


def test_hooks_of_the_last_block_see_the_cls_token() -> None:
    vit, seen = trunk(), []
    vit.vit.blocks[-1].register_forward_hook(lambda block, args, output: seen.append(output))
    vit(torch.randn(2, 1, 32, 32, dtype=torch.float64))
    assert [output.shape for output in seen] == [(2, 24)]
    with pytest.raises(ValueError, match="attends to all tokens"):
        vit.vit.blocks[-1](torch.zeros(1, 3, 24).double(), is_causal=True, cls_only=True)


@pytest.mark.parametrize("how", ["hook", "own forward", "no fused attention"])
def test_an_attention_that_was_changed_is_called(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vit, seen = trunk(), []
    attention = vit.vit.blocks[-1].attn
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    expected = vit(images)
    if how == "hook":
        attention.register_forward_hook(lambda module, args, output: seen.append(output))
    elif how == "own forward":
        own = attention.forward

        def forward(x: torch.Tensor, **options: Any) -> torch.Tensor:
            seen.append(own(x, **options))
            return seen[-1]

        attention.forward = forward
    else:
        attention.fused_attn = False
        softmax = torch.Tensor.softmax
        monkeypatch.setattr(
            torch.Tensor,
            "softmax",
            lambda x, *args, **options: seen.append(x) or softmax(x, *args, **options),
        )
    torch.testing.assert_close(vit(images), expected)
    assert [output.shape[-2] for output in seen] == [17]


def test_no_images() -> None:
    vit = trunk()
    assert vit(torch.zeros(0, 1, 32, 32, dtype=torch.float64)).shape == (0, 24)


def test_an_image_s_row_does_not_depend_on_its_place_in_the_batch() -> None:
    """Bitwise, on several threads: torch's attention of a single query would fail this."""
    threads = torch.get_num_threads()
    vit = trunk(embed_dim=192, depth=2).float()
    images, order = torch.randn(16, 1, 32, 32), torch.randperm(16)
    try:
        torch.set_num_threads(2)
        with torch.inference_mode():
            for _ in range(5):
                assert torch.equal(vit(images)[order], vit(images[order]))
    finally:
        torch.set_num_threads(threads)


def test_a_block_of_another_kind_is_computed_whole() -> None:
    block = trunk(norm_layer=nn.LayerNorm, block_fn=_Odd).vit.blocks[-1]
    tokens = torch.randn(2, 9, 24, dtype=torch.float64)
    torch.testing.assert_close(cls_after(block, tokens), block(tokens)[:, 0])


class _Odd(nn.Module):
    def __init__(self, dim: int, **_: Any) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(x).mean(1, keepdim=True)


def test_drop_path_follows_the_keys() -> None:
    vit = trunk(drop_path_rate=0.1)
    model = LastBlockClassifier(vit, 7, drop_path=0.5, seed=1).double().train()
    tokens = torch.randn(64, 17, 24, dtype=torch.float64)
    keys = torch.arange(64)
    drawn = model(tokens, keys)
    torch.testing.assert_close(model(tokens, keys), drawn)
    torch.testing.assert_close(model(tokens[5:9], keys[5:9]), drawn[5:9])
    whole = model(tokens)
    torch.testing.assert_close(model.eval()(tokens, keys), whole)
    # Where both branches fell out, the head sees the normed input.
    skipped = model.head(model.norm(tokens[:, 0]))
    both = (drawn - skipped).abs().amax(1) < 1e-9
    assert 6 <= int(both.sum()) <= 28
    assert not bool(((drawn - whole).abs().amax(1) < 1e-9).any())


def test_a_replaced_forward_is_called_as_it_is() -> None:
    block, tokens = trunk().vit.blocks[-1], torch.randn(4, 9, 24, dtype=torch.float64)
    expected, own = cls_after(block, tokens), block.forward
    assert saves_for_cls(block)
    block.forward = lambda x: own(x) + 1
    assert not saves_for_cls(block)
    torch.testing.assert_close(cls_after(block, tokens), expected + 1)
    block.forward = lambda x, **kwargs: own(x, **kwargs) + 1
    assert saves_for_cls(block)
    torch.testing.assert_close(cls_after(block, tokens), expected + 1)


@pytest.mark.parametrize("kind", [ParallelThingsBlock, ParallelScalingBlock])
def test_every_branch_of_another_kind_of_block_drops(kind: type[nn.Module]) -> None:
    vit = trunk(block_fn=kind)
    model = LastBlockClassifier(vit, 7, drop_path=0.5).double().train()
    tokens, keys = torch.randn(64, 17, 24, dtype=torch.float64), torch.arange(64)
    drawn = model(tokens, keys)
    torch.testing.assert_close(model(tokens[5:9], keys[5:9]), drawn[5:9])
    skipped = model.head(model.norm(tokens[:, 0]))
    all_out = int(((drawn - skipped).abs().amax(1) < 1e-9).sum())
    branches = 4 if kind is ParallelThingsBlock else 1
    assert abs(all_out - 64 / 2**branches) <= 3 * (64 / 2**branches) ** 0.5


def test_the_trunk_stays_and_the_head_starts_small() -> None:
    vit = trunk().requires_grad_(False)
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    model = LastBlockClassifier(vit, 100, seed=3)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    for parameter in model.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    again, other = LastBlockClassifier(vit, 100, seed=3), LastBlockClassifier(vit, 100, seed=4)
    assert torch.equal(again.head.weight + 1, model.head.weight)
    assert not torch.equal(again.head.weight, other.head.weight)
    assert again.head.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"backbone ResNet has no last block .*MaskedViT") as error:
        trunk_with_blocks(ResNet(18))
    assert "\n" not in str(error.value)
