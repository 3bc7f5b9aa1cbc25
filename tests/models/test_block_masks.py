"""Block-wise masks: how much, which shape, and from where their randomness comes."""

from __future__ import annotations

import pytest
import torch

from msn_mm.models.ops.block_masking import block_masks

KEYS = torch.randint(0, 2**32, (600,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", [(14, 14), (4, 4), (7, 12)])
def test_share_of_images_and_of_patches(grid):
    masks = block_masks(KEYS, grid, ratio=0.3, variation=0.2, probability=0.5)
    patches = grid[0] * grid[1]
    assert masks.shape == (600, patches) and masks.dtype == torch.bool
    counts = masks.sum(1)
    masked = counts[counts > 0] / patches
    # 600 images: a standard deviation of 0.02.
    assert len(masked) / 600 == pytest.approx(0.5, abs=0.08)
    assert masked.max() <= 0.5 and masked.min() > 0.1 - 1 / patches
    # Floored to whole patches; half a patch of bias.
    assert masked.mean().item() == pytest.approx(0.3 - 0.5 / patches, abs=0.03)


def test_a_fixed_share_is_reached():
    masks = block_masks(KEYS, (14, 14), ratio=0.3, variation=0.0, probability=1.0)
    assert masks.sum(1).max() == 58 and (masks.sum(1) == 58).float().mean() > 0.98
    assert not block_masks(KEYS, (14, 14), probability=0.0).any()


def test_masks_are_blocks():
    """A masked patch has far more masked neighbours than a random one would have."""
    masks = block_masks(KEYS, (14, 14), ratio=0.3, variation=0.0, probability=1.0)
    image = masks.unflatten(1, (14, 14))
    both = (image[:, :, 1:] & image[:, :, :-1]).sum() / image[:, :, :-1].sum()
    assert both > 0.6, "random patches: 0.3"
    first = image.flatten(1).float().argmax(1)
    assert len(first.unique()) > 40, "blocks lie anywhere"


def test_a_mask_follows_its_key():
    masks = block_masks(KEYS[:20], (14, 14), probability=1.0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(block_masks(KEYS[:20][order], (14, 14), probability=1.0), masks[order])
    assert len({tuple(mask.tolist()) for mask in masks}) == 20


@pytest.mark.parametrize("bad", [{"ratio": 0.1}, {"ratio": 0.9}, {"probability": 1.2}])
def test_impossible_masks_are_refused(bad):
    with pytest.raises(ValueError, match="must lie in"):
        block_masks(KEYS, (4, 4), **bad)
