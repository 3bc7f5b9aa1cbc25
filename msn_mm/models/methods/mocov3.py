"""MoCo v3: find the moving average of the other view among all images (arXiv 2104.02057).

Legend: B images, P projection width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.losses.momentum_contrast import contrast_logits
from msn_mm.models.methods.momentum_prediction import MomentumPrediction
from msn_mm.models.ops.micro_batch import MicroBatch
from msn_mm.models.ops.vit_start import fix_positions_, start_linear_, start_patches_
from msn_mm.registry import MODELS


@MODELS.register_module()
class MoCoV3(MomentumPrediction):
    """Tell, from one view, which image of all ranks the moving average's other view shows.

    Predictor, loss and temperature T come from mmpretrain's ``MoCoV3Head``, whose
    loss weight the paper sets to 2 T; both directions are summed. A ViT starts as
    published (:mod:`msn_mm.models.ops.vit_start`), its patch embedding stays random:
    its gradients are what makes training unstable (section 4).

    Args:
        backbone: Config of a backbone with ``embed_dim``.
        neck: Config of the projector; its input width follows the backbone.
        head: Config of predictor and loss; the predictor's input width follows the
            projector.
        fixed_patches: Leave the ViT's patch embedding as it starts.
        fixed_positions: Sine-cosine positions that are not trained, as published;
            else the ViT's own, trained as in MSN.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If the parts do not fit, or something of a ViT is to stay fixed
            and there is none; in training, if there are not two views of each image.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any],
        head: Mapping[str, Any],
        fixed_patches: bool = True,
        fixed_positions: bool = True,
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor, micro_batch)
        trunk = self.backbone
        if isinstance(trunk, MaskedViT):
            start_linear_(trunk, split_qkv=True)
            start_patches_(trunk)
            assert trunk.vit.cls_token is not None  # checked by the backbone
            torch.nn.init.normal_(trunk.vit.cls_token, std=1e-6)
            if fixed_positions:
                fix_positions_(trunk.vit.pos_embed, trunk.grid)
            if fixed_patches:
                trunk.vit.patch_embed.requires_grad_(False)
            self.momentum_backbone.load_state_dict(trunk.state_dict())
        elif fixed_patches or fixed_positions:
            raise UserError(
                f"backbone {type(trunk).__name__} has no patches to keep fixed; take "
                "type='MaskedViT', or set model.fixed_patches and model.fixed_positions to False"
            )

    def compare(
        self, predictions: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Compute the loss of predictions and targets, ``(B, P)`` of each view."""
        losses, found = [], []
        for prediction, target in zip(predictions, targets, strict=True):
            logits, own = contrast_logits(prediction, target, self.head.temperature)
            losses.append(self.head.loss_module(logits, own))
            found.append((logits.detach().argmax(1) == own).float().mean())
        return {
            "loss_mocov3": torch.stack(losses).sum(),
            "contrast_accuracy": torch.stack(found).mean(),
        }
