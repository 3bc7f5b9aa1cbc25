"""The worked-out costs against what torch counts while a transformer runs."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.utils.vit_cost import ViTShape

BATCH, SIZE, PATCH = 4, 64, 8
PATCHES = (SIZE // PATCH) ** 2


def make_vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=96, depth=3, num_heads=3, num_classes=0
    )


def test_flops_equal_what_torch_counts() -> None:
    vit = make_vit()
    shape = ViTShape.of(vit)
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as forward:
        out = vit.forward_features(images)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    expected = shape.forward_flops(PATCHES + 1, PATCHES)
    assert forward.get_total_flops() == BATCH * expected
    # Fused attention computes the query-key product once more, which is not useful work.
    again = shape.depth * 2 * (PATCHES + 1) ** 2 * shape.width
    assert backward.get_total_flops() == BATCH * (
        shape.backward_flops(PATCHES + 1, PATCHES) + again
    )


def test_flops_by_hand() -> None:
    shape = ViTShape(width=2, hidden=8, depth=3, patch_numbers=5)
    # 3 blocks of 4 tokens: 16 D^2 numbers of weights, 2 FLOPs each, and 2 products 4 x 4 x 2.
    block = 4 * 2 * (4 * 2 * 2 + 2 * 2 * 8) + 2 * 2 * 4 * 4 * 2
    assert shape.forward_flops(tokens=4, patches=7) == 2 * 7 * 5 * 2 + 3 * block
    assert shape.backward_flops(4, 7, checkpointing=True) == 2 * 7 * 5 * 2 + 3 * 3 * block


@pytest.mark.parametrize("amp", [False, True])
def test_kept_bytes_are_near_what_autograd_keeps(amp: bool) -> None:
    vit = make_vit()
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
        measured -= sum(2 * p.numel() for p in vit.parameters() if p.ndim > 1 and p.shape[0] > 1)
    predicted = BATCH * ViTShape.of(vit).saved_bytes(PATCHES + 1, PATCHES, amp)
    assert predicted == pytest.approx(measured, rel=0.05)
    lean = BATCH * ViTShape.of(vit).saved_bytes(PATCHES + 1, PATCHES, amp, checkpointing=True)
    assert lean < 0.6 * predicted
