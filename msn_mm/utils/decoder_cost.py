"""What a decoder of all patches costs in training, beside the encoder (MAE)."""

from __future__ import annotations

from msn_mm.utils.training_views import View
from msn_mm.utils.vit_cost import FLOAT, ViTShape


def decoder_flops(shape: ViTShape, view: View, again: bool = False) -> int:
    """Return the FLOPs of one view through the decoder, forward and backward.

    Args:
        shape: Of the decoder; its ``patch_numbers`` are those that it predicts of a patch.
        view: The decoder reads all of its tokens.
        again: The forward pass runs twice.
    """
    # Unlike pixels, its tokens need gradients: the prediction counts twice backwards.
    return (4 if again else 3) * shape.forward_flops(view.whole, view.patches)


def decoder_bytes(shape: ViTShape, view: View, amp: bool = False) -> int:
    """Return what the decoder's forward pass keeps of one view, in bytes."""
    return shape.saved_bytes(view.whole, view.patches, amp)


def prediction_bytes(shape: ViTShape, view: View) -> int:
    """Return what the loss keeps of one view's predicted pixels, in bytes.

    Predictions, targets, and their difference twice, in fp32.
    """
    return 4 * view.patches * shape.patch_numbers * FLOAT
