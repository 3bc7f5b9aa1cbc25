"""Masked Siamese Networks: assembly of backbone, head and loss (arXiv 2204.07141).

Legend: B images, V anchor views an image, D representation width, P projection width.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.masking import random_keep
from msn_mm.models.ops.statistics import batch_statistics
from msn_mm.models.readout import represent
from msn_mm.registry import MODELS

TARGET = "target"


@MODELS.register_module()
class MSN(BaseModel):
    """Match masked and focal anchor views to the whole target view.

    Args:
        backbone: Config of a backbone with ``embed_dim`` and
            ``forward(images, mask_ratio=, keys=) -> (B, D)``.
        head: Config of the projector and prototypes; its input width follows the backbone.
        loss: Config of the loss.
        mask_ratio: Share of patches to drop from each view, by the view's name;
            views that are not named stay whole. The target is never masked.
        shared_mask: One random mask for all images of a view on this process, as
            in the released code, instead of one an image.
        data_preprocessor: Config of the preprocessor.

    Raises:
        UserError: If head and backbone do not fit, the backbone cannot drop
            tokens, or the target is to be masked.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss: dict,
        mask_ratio: dict[str, float] | None = None,
        shared_mask: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        # Built here, from this project's registry: MMEngine's base class would ask
        # its own, which knows our names only while a runner has set the scope.
        super().__init__(
            data_preprocessor=None if data_preprocessor is None else MODELS.build(data_preprocessor)
        )
        self.mask_ratio = dict(mask_ratio or {})
        if self.mask_ratio.get(TARGET):
            raise UserError("model.mask_ratio names the target view: MSN's target is not masked")
        self.shared_mask = shared_mask
        for name, ratio in self.mask_ratio.items():
            if not 0.0 <= ratio < 1.0:
                raise UserError(f"model.mask_ratio.{name} is {ratio}; it must lie in [0, 1)")
        self.backbone = MODELS.build(backbone)
        width = getattr(self.backbone, "embed_dim", None)
        if width is None or not hasattr(self.backbone, "num_tokens"):
            raise UserError(
                f"backbone {type(self.backbone).__name__} cannot drop tokens; "
                "MSN needs type='MaskedViT' (any timm ViT by name)"
            )
        given = head.get("in_dim", width)
        if given != width:
            raise UserError(
                f"model.head.in_dim is {given} and the backbone's width is {width}; "
                "leave in_dim out and it follows the backbone"
            )
        self.head = MODELS.build({**head, "in_dim": width})
        self.loss_module = MODELS.build(loss)

        self.target_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        target_head = MODELS.build({**head, "in_dim": width, "num_prototypes": 0})
        target_head.load_state_dict(self.head.state_dict(), strict=False)
        self.target_head = target_head.requires_grad_(False)

        self.diagnostics: dict[str, Tensor] = {}
        # In the order of computation, to name what first was not finite.
        self.magnitudes: dict[str, Tensor] = {}

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(source, target) modules whose parameters follow by moving average.

        Buffers do not: the target's batch norm keeps statistics of its own batches.
        """
        return [
            (self.backbone, self.target_backbone),
            (self.head.projector, self.target_head.projector),
        ]

    def forward(
        self, inputs: Any, data_samples: dict[str, Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model.

        Args:
            inputs: In mode ``"loss"`` the views by name, each a dict with
                ``images`` ``(V * B, C, S, S)`` and ``key`` ``(V * B,)``; else
                images ``(B, C, H, W)``, normalised.
            data_samples: What collate gave beside the images.
            mode: ``"loss"``: dict of losses; ``"tensor"``: ``(B, D)`` features of
                the target trunk; ``"predict"``: a dict for each image with
                ``feature`` ``(D,)``, ``label`` and ``support``.
        """
        if mode == "loss":
            return self.loss(inputs)
        features = self.extract_features(inputs)
        if mode == "tensor":
            return features
        if mode == "predict":
            samples = data_samples or {}
            return [
                {"feature": feature, "label": int(label), "support": bool(support)}
                for feature, label, support in zip(
                    features, samples["label"], samples["support"], strict=True
                )
            ]
        raise ValueError(f"mode is '{mode}'; it must be 'loss', 'tensor' or 'predict'")

    def extract_features(self, images: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Represent images by the target trunk: CLS of the last block, before the final norm.

        ``(B, C, H, W)`` -> ``(B, D)``. Source: appendix C.1 and C.2.
        """
        return represent(self.target_backbone, images, mask_ratio=mask_ratio)

    def loss(self, inputs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the losses of a training batch, and statistics for the log.

        Batch norm of the heads runs over one view name at a time: views of
        different sizes have different statistics.
        """
        if TARGET not in inputs or len(inputs) < 2:
            raise UserError(
                "MSN needs a view named 'target' and at least one other view; "
                f"the data gives {sorted(inputs)}"
            )
        with torch.no_grad():
            representations, targets = self._encode(
                inputs[TARGET], 0.0, self.target_backbone, self.target_head
            )
        encoded = [
            self._encode(view, self.mask_ratio.get(name, 0.0), self.backbone, self.head)
            for name, view in inputs.items()
            if name != TARGET
        ]
        anchors = torch.cat([projections for _, projections in encoded])
        terms = self.loss_module.terms(anchors, targets, self.head.prototypes)
        self.diagnostics = {
            "representations": representations.detach(),
            "mean_prediction": terms.log_mean_prediction.detach().exp(),
            "targets": terms.targets,
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

    def _encode(
        self, view: dict[str, Tensor], mask_ratio: float, backbone: nn.Module, head: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """One view group -> representations ``(V * B, D)`` and projections ``(V * B, P)``."""
        images, keys = view["images"], view["key"]
        keep: Tensor | None = None
        if self.shared_mask and mask_ratio > 0.0:
            rows, columns = self.backbone.grid_of(*images.shape[-2:])
            keep = random_keep(1, rows * columns, mask_ratio, keys=keys[:1])
            keep = keep.expand(len(images), -1)
        z = backbone(images, mask_ratio=mask_ratio, keep=keep, keys=keys)
        return z, head(z)
