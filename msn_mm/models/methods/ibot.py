"""Image BERT pre-training with an online tokenizer: DINO and masked patches (arXiv 2111.07832).

Legend: B images, T target views, N patches, M masked ones, D width, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.methods.base import Views, ViewUse
from msn_mm.models.methods.dino import DINO, by_view
from msn_mm.models.ops.block_masking import block_masks
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.micro_batch import MicroBatch
from msn_mm.models.ops.precision import exact
from msn_mm.models.ops.statistics import batch_statistics
from msn_mm.registry import MODELS


@MODELS.register_module()
class IBOT(DINO):
    """DINO whose trained network sees global views with blocks of patches masked.

    The target network sees them whole, and the trained one predicts, patch by patch,
    what it makes of the masked ones. CLS and masked patches go through one head, as
    one batch. The mask token belongs to the method: the trunk is that of any other method.

    Args:
        backbone: Config of a backbone with ``embed_dim`` and
            ``forward_intermediates(images, keys=, replaced=)``.
        head: Config of the head; its input width follows the backbone.
        loss: Config of the loss; its number of outputs follows the head.
        mask: ``ratio``, ``variation`` and ``probability``, as for
            :func:`~msn_mm.models.ops.block_masking.block_masks`.
        target_views: Groups of one view an image that the target network sees too.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If head and backbone do not fit, there is no target view, or the
            mask is impossible.
    """

    loss_calls: ClassVar[tuple[str, ...]] = ("both", "weigh")

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss: dict,
        mask: dict[str, float] | None = None,
        target_views: Sequence[str] = ("global_1", "global_2"),
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(backbone, head, loss, target_views, data_preprocessor, micro_batch)
        self.mask = {"ratio": 0.3, "variation": 0.2, "probability": 0.5, **(mask or {})}
        try:
            block_masks(torch.zeros(0, dtype=torch.int64, device="cpu"), (1, 1), **self.mask)
        except (TypeError, ValueError) as error:
            raise UserError(f"model.mask is {self.mask}: {error}") from None
        self.mask_token = nn.Parameter(torch.zeros(1, self.backbone.embed_dim))

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        if name not in self.target_views:
            return super().view_use(name)
        masked = self.mask["ratio"] * self.mask["probability"]
        return ViewUse(target=True, head_patches=masked, target_head_patches=1.0, all_tokens=True)

    def hidden_patches(self, name: str, view: dict[str, Tensor]) -> Tensor | None:
        """Tell in place of which patches of each view the trained network sees a mask token."""
        if name not in self.target_views:
            return None
        grid = self.backbone.grid_of(*view["images"].shape[-2:])
        return block_masks(view["key"], grid, **self.mask).unflatten(1, grid)

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the losses of a training batch, and statistics for the log."""
        whole, others = self.split(inputs)
        images, keys = whole["images"], whole["key"]
        masks = block_masks(keys, self.backbone.grid_of(*images.shape[-2:]), **self.mask)
        representations, targets, patch_targets = self.encode_whole(images, keys, masks)

        def trunk(images: Tensor, keys: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
            replaced = (masks, self.mask_token)
            ((cls, patches),) = self.backbone.forward_intermediates(
                images, keys=keys, replaced=replaced
            )
            return cls, patches[masks]

        cls, patches = self.in_pieces(trunk, images, keys, masks)
        # One batch: batch norm in the head has rows enough, however few patches are masked.
        logits = self.head(torch.cat([cls, patches]))
        predicted = logits[len(cls) :]
        encoded = [(cls, logits[: len(cls)]), *(self.encode(view) for view in others)]
        predictions = by_view(encoded, len(self.target_views), targets)
        terms = self.loss_module.both(predictions, targets, predicted, patch_targets, masks)
        self.diagnostics = {
            "representations": representations.detach(),
            "mean_prediction": terms.cls.log_mean_prediction.exp(),
            "cross_entropy": terms.cls.cross_entropy.detach(),
        }
        self.magnitudes = {
            "the views": magnitude(*(view["images"] for view in inputs.values())),
            "the target's representations": magnitude(representations),
            "the target's logits": magnitude(targets, patch_targets),
            "the representations": magnitude(*(z for z, _ in encoded)),
            "the logits": magnitude(*(logits for _, logits in encoded), predicted),
        }
        return {
            **self.loss_module.weigh(terms),
            **batch_statistics(
                terms.cls.cross_entropy, terms.cls.log_mean_prediction, terms.cls.targets
            ),
            "masked": masks.float().mean(),
        }

    @torch.no_grad()
    def encode_whole(
        self, images: Tensor, keys: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the target views by the target network, and show the centres their means.

        The last layer is linear, so the mean logits of all patches are those of the
        mean patch: only the masked ones' logits are written out.

        Returns:
            Representations ``(T * B, D)``, logits ``(T * B, K)`` of the CLS tokens and
            ``(M, K)`` of the patches that are masked for the trained network.
        """
        head: Any = self.target_head
        cls, patches = self.in_pieces(
            lambda images, keys: self.target_backbone.forward_intermediates(images, keys=keys)[0],
            images,
            keys,
        )
        targets = head(cls)
        embedded = head.embed(patches)
        if self.training:
            self.loss_module.centre.observe(exact(targets).mean(0))
            mean = exact(embedded).mean((0, 1)).unsqueeze(0)
            with torch.autocast(images.device.type, enabled=False):
                self.loss_module.patch_centre.observe(head.last_layer(mean)[0])
        return cls, targets, head.last_layer(embedded[masks])
