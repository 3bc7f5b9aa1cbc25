"""Masked Siamese Networks: assembly of backbone, head and loss (arXiv 2204.07141).

Legend: B images, V anchor views an image, D representation width, P projection width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.losses.contract import check_loss
from msn_mm.models.methods.base import Views, ViewUse
from msn_mm.models.methods.self_distillation import SelfDistillation
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.micro_batch import MicroBatch
from msn_mm.models.ops.statistics import batch_statistics
from msn_mm.registry import MODELS

TARGET = "target"


@MODELS.register_module()
class MSN(SelfDistillation):
    """Match masked and focal anchor views to the whole target view.

    Args:
        backbone: Config of a backbone with ``embed_dim`` and
            ``forward(images, mask_ratio=, keys=) -> (B, D)``.
        head: Config of the projector and prototypes; its input width follows the backbone.
        loss: Config of the loss: an ``MSNLoss``, whose ``terms`` and ``weigh`` are called.
        mask_ratio: Share of patches to drop from each view, by the view's name;
            views that are not named stay whole. The target is never masked.
        shared_mask: One random mask for all images of a view on this process, as
            in the released code, instead of one an image.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If head and backbone do not fit, the backbone cannot drop
            tokens, the target is to be masked, or the loss has another way to be called.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss: dict,
        mask_ratio: dict[str, float] | None = None,
        shared_mask: bool = False,
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(backbone, head, mask_ratio, shared_mask, data_preprocessor, micro_batch)
        if self.mask_ratio.get(TARGET):
            raise UserError("model.mask_ratio names the target view: MSN's target is not masked")
        self.loss_module = MODELS.build(loss)
        check_loss(self.loss_module, type(self).__name__, "terms", "weigh")

    def build_target_head(self, head: dict) -> nn.Module:
        """Return a projector of the target's own; the prototypes are the trained ones."""
        target_head = MODELS.build({**head, "num_prototypes": 0})
        target_head.load_state_dict(self.head.state_dict(), strict=False)
        return target_head

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(source, target) modules whose parameters follow by moving average.

        Buffers do not: the target's batch norm keeps statistics of its own batches.
        """
        return [
            (self.backbone, self.target_backbone),
            (self.head.projector, self.target_head.projector),
        ]

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        if name == TARGET:
            return ViewUse(trained=False, target=True)
        return ViewUse(mask_ratio=self.mask_ratio.get(name, 0.0))

    def prototypes(self) -> Tensor:
        """Return the prototypes ``(K, P)``, of length 1 as the loss takes them."""
        return F.normalize(self.head.prototypes, dim=1)

    def project(self, images: Tensor) -> Tensor:
        """Project whole images by the target network: ``(B, C, H, W)`` -> ``(B, P)``."""
        return F.normalize(self.target_head(self.target_backbone(images)), dim=1)

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the losses of a training batch, and statistics for the log.

        Batch norm of the heads runs over one view name at a time: views of
        different sizes have different statistics.
        """
        if TARGET not in inputs or len(inputs) < 2:
            raise UserError(
                "MSN needs a view named 'target' and at least one other view; "
                f"the data gives {sorted(inputs)}"
            )
        representations, targets = self.encode(inputs[TARGET], target=True)
        encoded = [
            self.encode(view, self.mask_ratio.get(name, 0.0))
            for name, view in inputs.items()
            if name != TARGET
        ]
        anchors = torch.cat([projections for _, projections in encoded])
        terms = self.loss_module.terms(anchors, targets, self.head.prototypes)
        self.diagnostics = {
            "representations": representations.detach(),
            "mean_prediction": terms.log_mean_prediction.detach().exp(),
            "cross_entropy": terms.cross_entropy.detach(),
        }
        self.magnitudes = {
            "the views": magnitude(*(view["images"] for view in inputs.values())),
            "the target's representations": magnitude(representations),
            "the target's projections": magnitude(targets),
            "the anchors' representations": magnitude(*(z for z, _ in encoded)),
            "the anchors' projections": magnitude(anchors),
            "the logits": magnitude(terms.targets, terms.log_mean_prediction),
        }
        return {
            **self.loss_module.weigh(terms),
            **batch_statistics(terms.cross_entropy, terms.log_mean_prediction, terms.targets),
        }
