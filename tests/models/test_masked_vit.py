"""The masked backbone against timm's own ViT."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock
from torch.nn.attention import SDPBackend, sdpa_kernel

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.block_parts import num_heads
from msn_mm.models.ops.position import resample_positions

TINY = dict(name="vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=3)
TINY |= dict(num_heads=3)


def tiny(**changes) -> MaskedViT:
    torch.manual_seed(0)
    return MaskedViT(**{**TINY, **changes}).eval()


def timm_on_tokens(vit, images, keep, positions):
    """timm's own layers, run by hand on the kept tokens of one image at a time."""
    outputs = []
    for image, kept in zip(images, keep, strict=True):
        tokens = vit.patch_embed.proj(image[None]).flatten(2).transpose(1, 2) + positions
        tokens = torch.cat([vit.cls_token + vit.pos_embed[:, :1], tokens[:, kept]], dim=1)
        outputs.append(vit.norm(vit.blocks(tokens))[:, 0])
    return torch.cat(outputs)


def test_unmasked_equals_timm():
    model = tiny()
    images = torch.randn(3, 3, 32, 32)
    expected = model.vit.forward_features(images)[:, 0]
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_dropping_equals_timm_on_the_kept_tokens_only():
    model = tiny().double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    keep = torch.stack([torch.randperm(16)[:5].sort().values for _ in range(4)])
    expected = timm_on_tokens(model.vit, images, keep, model.vit.pos_embed[:, 1:])
    assert torch.allclose(model(images, keep=keep), expected, atol=1e-10)


def test_masked_pixels_cannot_reach_the_output():
    model = tiny()
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    keep = torch.tensor([[0, 5, 10]])
    # A plain sum of a layer norm's output is constant: only rounding would have a gradient.
    (model(images, keep=keep) * torch.randn(1, 24)).sum().backward()
    touched = images.grad.abs().sum(1).unfold(1, 8, 8).unfold(2, 8, 8).sum((-1, -2)).flatten()
    assert (touched > 0).nonzero().flatten().tolist() == [0, 5, 10]


def test_another_size_resamples_positions_and_cuts_the_rest():
    model = tiny()
    images = torch.randn(2, 3, 21, 29)  # 2 x 3 patches, 5 pixels over on each side
    positions = resample_positions(model.vit.pos_embed[:, 1:], (4, 4), (2, 3))
    everything = torch.arange(6).expand(2, 6)
    expected = timm_on_tokens(model.vit, images[..., :16, :24], everything, positions)
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_token_counts_of_vit_l7():
    with torch.device("meta"):
        model = MaskedViT("vit_large_patch16_224", patch_size=7)
    assert model.num_tokens(224) == 1025
    assert model.num_tokens(224, 0.7) == 308
    assert model.num_tokens(96) == 170


def test_blocks_see_the_tokens_that_num_tokens_promises():
    model = tiny()
    seen = []
    model.vit.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model(torch.randn(2, 3, 32, 32), mask_ratio=0.3)
    model(torch.randn(2, 3, 16, 16))
    assert seen == [model.num_tokens(32, 0.3), model.num_tokens(16)] == [12, 5]


def test_masks_follow_the_keys():
    model = tiny()
    images, keys = torch.randn(4, 3, 32, 32), torch.tensor([3, 9, 27, 81])
    whole = model(images, mask_ratio=0.5, keys=keys)
    assert torch.equal(whole, model(images, mask_ratio=0.5, keys=keys))
    flipped = model(images.flip(0), mask_ratio=0.5, keys=keys.flip(0)).flip(0)
    assert torch.allclose(whole, flipped, atol=1e-6)
    assert not torch.allclose(whole, model(images, mask_ratio=0.5, keys=keys + 1), atol=1e-3)


def test_intermediates():
    model = tiny()
    images = torch.randn(2, 3, 32, 32)
    pairs = model.forward_intermediates(images, blocks=2, norm=False)
    expected = model.vit.forward_intermediates(
        images, indices=2, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    for (cls, patches), (timm_patches, timm_prefix) in zip(pairs, expected, strict=True):
        assert torch.allclose(cls, timm_prefix[:, 0], atol=1e-5)
        assert torch.allclose(patches, timm_patches, atol=1e-5)
    normed = model.forward_intermediates(images, blocks=1)[0][0]
    assert torch.allclose(normed, model(images), atol=1e-6)
    with pytest.raises(ValueError, match="1 to 3"):
        model.forward_intermediates(images, blocks=4)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_checkpointing_changes_memory_not_numbers(rate):
    images, keys = torch.randn(6, 3, 32, 32), torch.arange(6)
    gradients = []
    for checkpointing in (False, True):
        model = tiny(drop_path_rate=rate, checkpointing=checkpointing).train()
        # Another size in between: the recomputation must not take its gates.
        large = model(images, mask_ratio=0.25, keys=keys)
        small = model(images[..., :16, :16], keys=keys + 100)
        (large.square().sum() + small.square().sum()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, atol=1e-5)


def test_stochastic_depth_acts_in_training_only_and_follows_keys():
    for rate in (1.0, 1, -0.1, "0.1"):
        with pytest.raises(UserError, match=r"drop_path_rate is .* which a ViT cannot have"):
            tiny(drop_path_rate=rate)
    model = tiny(drop_path_rate=0.5)
    images, keys = torch.randn(8, 3, 32, 32), torch.arange(8)
    whole = model(images, keys=keys)
    model.train()
    dropped = model(images, keys=keys)
    assert torch.equal(dropped, model(images, keys=keys))
    assert not torch.allclose(dropped, whole, atol=1e-3)


@pytest.mark.parametrize("kind", [ParallelThingsBlock, ParallelScalingBlock])
def test_blocks_of_other_kinds_drop_by_the_images_key(kind):
    model = tiny(drop_path_rate=0.5, block_fn=kind).train()
    images, keys = torch.randn(8, 3, 32, 32), torch.arange(8)
    drawn = model(images, mask_ratio=0.25, keys=keys)
    torch.manual_seed(1)
    part = model(images[5:], mask_ratio=0.25, keys=keys[5:])
    torch.testing.assert_close(part, drawn[5:], atol=1e-5, rtol=1e-5)
    other = model(images, mask_ratio=0.25, keys=keys + 8)
    assert not torch.allclose(other, drawn, atol=1e-3)
    assert num_heads(model.vit) == 3


def test_attention_runs_through_scaled_dot_product_attention():
    model = tiny()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        model(torch.randn(2, 3, 32, 32))
    assert model.vit.blocks[0].attn.fused_attn


def test_weights_are_timm_s():
    name = "vit_tiny_patch16_224"
    model = MaskedViT(name)
    model.vit.load_state_dict(timm.create_model(name, num_classes=0).state_dict())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(name="vit_smal_patch16_224"), "Did you mean 'vit_small_patch16_224'"),
        (dict(name="resnet18"), "cannot drop tokens"),
        (dict(name="vit_relpos_small_patch16_224"), "cannot drop tokens"),
        (dict(name="vit_medium_patch16_gap_240"), "has a CLS token"),
        (dict(name="vit_tiny_r_s16_p8_224"), "has plain patch embeddings"),
        (dict(name="vit_base_mci_224", img_size=64, depth=1), "has plain patch embeddings"),
        (dict(img_size=32, patch_size=64), "larger than img_size"),
        (dict(embed_dim=100, num_heads=3), "do not fit"),
        (dict(embed_dims=100), "no setting 'embed_dims'. Did you mean 'embed_dim'"),
        (dict(dynamic_img_pads=True), "no setting 'dynamic_img_pads'"),
        (dict(patch_drop_rate=0.5), "leave it out and set mask_ratio"),
    ],
)
def test_a_wrong_backbone_says_so_in_one_line(arguments, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        MaskedViT(**arguments)
    assert "\n" not in str(caught.value)


def test_wrong_images_say_so():
    with pytest.raises(UserError, match="larger than a view of 4 x 4"):
        tiny()(torch.randn(1, 3, 4, 4))
    with pytest.raises(UserError, match=r"1 channel\(s\)"):
        tiny()(torch.randn(1, 1, 32, 32))
    assert tiny(in_chans=5)(torch.randn(1, 5, 32, 32)).shape == (1, 24)


def test_unknown_resampling_is_one_line():
    with pytest.raises(UserError, match="resampling is 'nearest'; there are scale, dino, timm"):
        MaskedViT("vit_tiny_patch16_224", depth=1, resampling="nearest")
