"""What a decoder of all patches costs in training, beside the encoder (MAE)."""

from __future__ import annotations

from collections.abc import Sequence

from msn_mm.utils.training_cost import View
from msn_mm.utils.vit_cost import ViTShape


def decoder_flops(shape: ViTShape, views: Sequence[View]) -> int:
    """Return the FLOPs of one source image through the decoder, forward and backward.

    Args:
        shape: Of the decoder; its ``patch_numbers`` are those that it predicts of a patch.
        views: As :func:`msn_mm.utils.training_cost.read_views` gives them; the
            decoder reads all of a view's tokens.
    """
    # Unlike pixels, its tokens need gradients: the prediction counts twice backwards.
    return sum(view.num * (3 * shape.forward_flops(view.whole, view.patches)) for view in views)


def decoder_bytes(shape: ViTShape, views: Sequence[View], images: int, amp: bool = False) -> int:
    """Return what the decoder's forward pass keeps for ``images`` images, in bytes."""
    return images * sum(
        view.num * shape.saved_bytes(view.whole, view.patches, amp) for view in views
    )
