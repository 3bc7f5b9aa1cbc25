"""The worked-out costs against what torch counts while a transformer runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import GluMlp, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.utils.vit_cost import ViTShape

BATCH, SIZE, PATCH = 4, 64, 8
PATCHES = (SIZE // PATCH) ** 2
# Each with the share by which its memory may be missed.
KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "plain": ({}, 0.02),
    "as wide inside": ({"mlp_ratio": 1}, 0.02),
    "gated": ({"mlp_layer": GluMlp}, 0.02),
    "SwiGLU": ({"mlp_layer": SwiGLU}, 0.02),
    "packed SwiGLU": ({"mlp_layer": SwiGLUPacked, "mlp_ratio": 8 / 3}, 0.02),
    "norms behind": ({"block_fn": ResPostBlock}, 0.2),
    "two of each": ({"block_fn": ParallelThingsBlock}, 0.02),
    "one norm for both": ({"block_fn": ParallelScalingBlock}, 0.2),
}


def make_vit(**further: Any) -> VisionTransformer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(embed_dim=96, depth=3, num_heads=3, num_classes=0)
    return VisionTransformer(img_size=SIZE, patch_size=PATCH, **{**sizes, **further})


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_flops_equal_what_torch_counts(kind: str, frozen: int) -> None:
    if frozen and kind == "norms behind":
        pytest.skip("nothing of its first trained block lies before queries, keys and values")
    vit = make_vit(**KINDS[kind][0])
    if frozen:
        vit.requires_grad_(False)
        vit.blocks[frozen:].requires_grad_(True)
    shape = ViTShape.of(vit)
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as forward:
        out = vit.forward_features(images)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    expected = shape.forward_flops(PATCHES + 1, PATCHES)
    assert forward.get_total_flops() == BATCH * expected
    # Fused attention computes the query-key product once more, which is not useful work.
    again = (3 - frozen) * shape.attentions * 2 * (PATCHES + 1) ** 2 * shape.width
    assert backward.get_total_flops() == BATCH * (
        shape.backward_flops(PATCHES + 1, PATCHES) + again
    )


def test_flops_by_hand() -> None:
    shape = ViTShape(width=2, hidden=8, depth=3, patch_numbers=5)
    # 3 blocks of 4 tokens: 16 D^2 numbers of weights, 2 FLOPs each, and 2 products 4 x 4 x 2.
    block = 4 * 2 * (4 * 2 * 2 + 2 * 2 * 8) + 2 * 2 * 4 * 4 * 2
    assert shape.forward_flops(tokens=4, patches=7) == 2 * 7 * 5 * 2 + 3 * block
    assert shape.backward_flops(4, 7, checkpointing=True) == 2 * 7 * 5 * 2 + 3 * 3 * block


def test_a_fixed_patch_embedding_has_no_backward_pass() -> None:
    vit = make_vit()
    vit.patch_embed.requires_grad_(False)
    fixed, trained = ViTShape.of(vit), ViTShape.of(make_vit())
    assert fixed.frozen == trained.frozen == 0
    less = trained.backward_flops(9, PATCHES) - fixed.backward_flops(9, PATCHES)
    assert less == 2 * PATCHES * 3 * PATCH**2 * 96
    assert ViTShape.of(vit.requires_grad_(False)).backward_flops(9, PATCHES) == 0


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_kept_bytes_are_near_what_autograd_keeps(kind: str, frozen: int, amp: bool) -> None:
    further, tolerance = KINDS[kind]
    vit = make_vit(**further)
    if frozen:
        vit.requires_grad_(False)
        vit.blocks[frozen:].requires_grad_(True)
    weights = {p.untyped_storage().data_ptr() for p in vit.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in weights:
            kept[pointer] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        vit.forward_features(torch.randn(BATCH, 3, SIZE, SIZE))
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    if amp:  # the weights' copies in bfloat16 are counted with the parameters
        matrices = [p for p in vit.parameters() if p.ndim > 1 and p.shape[0] > 1]
        measured -= sum(2 * p.numel() for p in matrices if p.requires_grad)
    predicted = BATCH * ViTShape.of(vit).saved_bytes(PATCHES + 1, PATCHES, amp)
    assert predicted == pytest.approx(measured, rel=max(tolerance, 0.05 if amp else 0))
    if frozen:
        return
    lean = BATCH * ViTShape.of(vit).saved_bytes(PATCHES + 1, PATCHES, amp, checkpointing=True)
    assert lean < 0.6 * predicted
