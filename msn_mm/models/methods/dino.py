"""Self-distillation without labels: assembly of backbone, head, loss (arXiv 2104.14294).

Legend: B images, V views an image, T of them targets, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.losses.centre import Centre
from msn_mm.models.losses.contract import check_loss
from msn_mm.models.methods.base import CollapseKnobs, Views, ViewUse
from msn_mm.models.methods.self_distillation import SelfDistillation
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.micro_batch import MicroBatch
from msn_mm.models.ops.precision import exact
from msn_mm.models.ops.statistics import batch_statistics
from msn_mm.models.ops.stochastic_depth import without_stochastic_depth_
from msn_mm.registry import MODELS


@MODELS.register_module()
class DINO(SelfDistillation):
    """Predict the target network's output for each global view from all other views.

    Stochastic depth, where the backbone has it, is the trained network's alone.

    Args:
        backbone: Config of a backbone with ``embed_dim`` and
            ``forward(images, mask_ratio=, keep=, keys=) -> (B, D)``.
        head: Config of the head; its input width follows the backbone.
        loss: Config of the loss; its number of outputs follows the head.
        target_views: Groups of one view an image that the target network sees too.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If head and backbone do not fit, or there is no target view.
    """

    # What a step calls of the loss.
    loss_calls: ClassVar[tuple[str, ...]] = ("terms",)

    # Centring alone makes predictions uniform, sharpening alone makes them one output
    # (section 5.3 of the paper): each trouble is the other's medicine.
    collapse_knobs = CollapseKnobs(
        uniform="lower the targets' temperature (TargetTemperatureHook, or "
        "model.loss.target_temperature)",
        few="lower model.loss.centre_momentum, or raise the targets' temperature "
        "(TargetTemperatureHook, or model.loss.target_temperature)",
        constant="set model.head.batch_norm=True",
    )

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss: dict,
        target_views: Sequence[str] = ("global_1", "global_2"),
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(
            backbone, head, data_preprocessor=data_preprocessor, micro_batch=micro_batch
        )
        if isinstance(target_views, str) or not target_views:
            raise UserError("model.target_views must be a list of names of views")
        self.target_views = tuple(target_views)
        without_stochastic_depth_(self.target_backbone)
        self.loss_module = MODELS.build({**loss, "output_dim": self.head.output_dim})
        check_loss(self.loss_module, type(self).__name__, *self.loss_calls)

    @staticmethod
    def couples_images(settings: Mapping[str, Any]) -> bool:
        """Whether images of a batch meet: in batch norm of the head alone.

        The loss is a mean over images and the centre one over steps, so that a batch in
        several parts is the same training.

        Args:
            settings: Config of the model.
        """
        return bool((settings.get("head") or {}).get("batch_norm"))

    def centres(self) -> list[Centre]:
        """Return what moves with each optimizer step beside the target network."""
        return [module for module in self.modules() if isinstance(module, Centre)]

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        return ViewUse(target=name in self.target_views)

    def prototypes(self) -> Tensor:
        """Return the last layer's rows ``(K, P)``, by which the target's logits are made."""
        head: Any = self.target_head
        return head.last_layer.rows()

    def project(self, images: Tensor) -> Tensor:
        """Project whole images by the target network: ``(B, C, H, W)`` -> ``(B, P)``."""
        head: Any = self.target_head
        return head.embed(self.target_backbone(images))

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the loss of a training batch, and statistics for the log."""
        whole, others = self.split(inputs)
        representations, targets = self.encode(whole, target=True)
        encoded = [self.encode(view) for view in (whole, *others)]
        terms = self.loss_module.terms(by_view(encoded, len(self.target_views), targets), targets)
        if self.training:
            self.loss_module.centre.observe(exact(targets).mean(0))
        self.diagnostics = {
            "representations": representations.detach(),
            "mean_prediction": terms.log_mean_prediction.exp(),
            "cross_entropy": terms.cross_entropy.detach(),
        }
        self.magnitudes = {
            "the views": magnitude(*(view["images"] for view in inputs.values())),
            "the target's representations": magnitude(representations),
            "the target's logits": magnitude(targets),
            "the representations": magnitude(*(z for z, _ in encoded)),
            "the logits": magnitude(*(logits for _, logits in encoded)),
        }
        return {
            "loss_dino": terms.cross_entropy,
            **batch_statistics(terms.cross_entropy, terms.log_mean_prediction, terms.targets),
        }

    def split(self, inputs: Views) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Join the target views to one group, and the other views to one a size.

        Raises:
            UserError: If a target view is missing, or they are not one view of each image.
        """
        missing = [name for name in self.target_views if name not in inputs]
        if missing:
            raise UserError(
                f"{type(self).__name__} needs a view named '{missing[0]}' (model.target_views); "
                f"the data gives {sorted(inputs)}"
            )
        targets = [inputs[name] for name in self.target_views]
        if len({view["images"].shape for view in targets}) > 1:
            raise UserError(
                f"the target views {', '.join(self.target_views)} must be alike in size and have "
                "one view an image each (num=1)"
            )
        sizes: dict[int, list[dict[str, Tensor]]] = {}
        for name, view in inputs.items():
            if name not in self.target_views:
                sizes.setdefault(view["images"].shape[-1], []).append(view)
        return join(targets), [join(group) for group in sizes.values()]


def join(groups: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate groups of views of one size: one pass through the network serves them all."""
    return {name: torch.cat([group[name] for group in groups]) for name in ("images", "key")}


def by_view(encoded: Sequence[tuple[Tensor, Tensor]], count: int, targets: Tensor) -> list[Tensor]:
    """Return the logits of each view ``(B, K)``, in the order in which they were encoded.

    Args:
        encoded: Representations and logits of groups of views.
        count: T.
        targets: ``(T * B, K)``.
    """
    batch = targets.shape[0] // count
    return [view for _, logits in encoded for view in logits.split(batch)]
