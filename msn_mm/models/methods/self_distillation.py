"""Methods that learn from a moving average of themselves: MSN, DINO, iBOT.

Legend: B images, V views of a group, D representation width, P width of the head's output.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.methods.base import PretrainingMethod
from msn_mm.models.ops.masking import is_dropped, random_keep
from msn_mm.models.ops.micro_batch import MicroBatch, check_micro_batch
from msn_mm.registry import MODELS


class SelfDistillation(PretrainingMethod):
    """A trained network and head, and a target network and head that follow them.

    Args:
        backbone: Config of a backbone with ``embed_dim`` and
            ``forward(images, mask_ratio=, keep=, keys=) -> (B, D)``.
        head: Config of the head; its input width follows the backbone.
        mask_ratio: Share of patches that the trained network drops from each
            view, by the view's name; views that are not named stay whole. The
            target network sees whole views.
        shared_mask: One random mask for all images of a view on this process, as
            in MSN's released code, instead of one an image.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If head and backbone do not fit, or the backbone cannot drop
            tokens or run in micro-batches.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        mask_ratio: dict[str, float] | None = None,
        shared_mask: bool = False,
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(data_preprocessor, micro_batch)
        if not isinstance(mask_ratio or {}, Mapping):
            raise UserError(
                f"model.mask_ratio is {mask_ratio!r:.60}; name the views that are masked: "
                "mask_ratio=dict(anchor=0.15)"
            )
        self.mask_ratio = dict(mask_ratio or {})
        self.shared_mask = shared_mask
        for name, ratio in self.mask_ratio.items():
            if not isinstance(ratio, int | float) or not 0.0 <= ratio < 1.0:
                raise UserError(f"model.mask_ratio.{name} is {ratio!r:.60}; it must lie in [0, 1)")
        self.backbone = MODELS.build(backbone)
        width = getattr(self.backbone, "embed_dim", None)
        if width is None or not hasattr(self.backbone, "num_tokens"):
            raise UserError(
                f"backbone {type(self.backbone).__name__} cannot drop tokens; "
                f"{type(self).__name__} needs type='MaskedViT' (any timm ViT by name)"
            )
        check_micro_batch(micro_batch, self.backbone)
        given = head.get("in_dim", width)
        if given != width:
            raise UserError(
                f"model.head.in_dim is {given} and the backbone's width is {width}; "
                "leave in_dim out and it follows the backbone"
            )
        head = {**head, "in_dim": width}
        self.head = MODELS.build(head)
        self.target_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.target_head = self.build_target_head(head).requires_grad_(False)

    def build_target_head(self, head: dict) -> nn.Module:
        """Return the target's head, equal to the trained one at the start."""
        return copy.deepcopy(self.head)

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(source, target) modules whose parameters follow by moving average.

        Buffers do not: the target's batch norm keeps statistics of its own batches.
        """
        return [(self.backbone, self.target_backbone), (self.head, self.target_head)]

    def encode(
        self, view: dict[str, Tensor], mask_ratio: float = 0.0, target: bool = False
    ) -> tuple[Tensor, Any]:
        """One group of views -> representations ``(V * B, D)`` and what the head makes of them.

        Args:
            view: ``images`` ``(V * B, C, S, S)`` and ``key`` ``(V * B,)``.
            mask_ratio: Share of patches to drop.
            target: By the target network, without gradients.
        """
        backbone = self.target_backbone if target else self.backbone
        keep = self.kept_patches(view, mask_ratio)

        def trunk(images: Tensor, keep: Tensor | None, keys: Tensor) -> Tensor:
            z: Tensor = backbone(images, keep=keep, keys=keys)
            return z

        with torch.set_grad_enabled(torch.is_grad_enabled() and not target):
            z = self.in_pieces(trunk, view["images"], keep, view["key"])
            return z, (self.target_head if target else self.head)(z)

    def kept_patches(self, view: dict[str, Tensor], mask_ratio: float) -> Tensor | None:
        """Draw the patches of each view that stay: ``(V * B, M)`` indices, or None for all."""
        if not mask_ratio:
            return None
        keys = view["key"]
        rows, columns = self.backbone.grid_of(*view["images"].shape[-2:])
        if self.shared_mask:
            one = random_keep(1, rows * columns, mask_ratio, keys=keys[:1])
            return one.expand(len(keys), -1)
        return random_keep(len(keys), rows * columns, mask_ratio, keys=keys)

    def hidden_patches(self, name: str, view: dict[str, Tensor]) -> Tensor | None:
        """Tell which patches of each view the trained network does not see."""
        keep = self.kept_patches(view, self.mask_ratio.get(name, 0.0))
        if keep is None:
            return None
        rows, columns = self.backbone.grid_of(*view["images"].shape[-2:])
        return is_dropped(keep, rows * columns).unflatten(1, (rows, columns))
