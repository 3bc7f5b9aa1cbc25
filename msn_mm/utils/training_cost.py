"""FLOPs and memory of multi-view training, from the model's shape and the views.

The formulas of one pass are in :mod:`msn_mm.utils.vit_cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from torch import nn

from msn_mm.engine.batch import BatchPlan
from msn_mm.engine.fsdp.units import whole_at_once
from msn_mm.utils.decoder_cost import decoder_bytes, decoder_flops, prediction_bytes
from msn_mm.utils.training_views import View, read_views
from msn_mm.utils.vit_cost import BFLOAT, FLOAT, ViTShape, linear_flops, linear_saved_bytes


@dataclass(frozen=True)
class Memory:
    """Predicted bytes on one device.

    Attributes:
        parameters: trained ones and the target's.
        gradients: of the trained ones; twice with several processes, whose
            sums travel in buckets.
        optimizer: AdamW's two moments.
        activations: what the forward passes with gradients keep, the views'
            pixels, and the widest intermediate of one pass.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the parts, without the library's and allocator's own share."""
        return self.parameters + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class TrainingCost:
    """What a training step of a ViT costs, for any batch and micro-batch.

    Attributes:
        shape: of the trunk.
        views: groups of views of an image.
        head: the trained head.
        trained: parameters that the optimizer moves.
        target: parameters that follow them, or stay as they are.
        decoder: of a decoder of all patches behind the trunk.
        amp: bfloat16 autocast.
        checkpointing: blocks are recomputed in the backward pass.
        whole: Of weights in shards, how many are whole at once; None without shards.
        whole_in_pieces: The same where the trunk runs in micro-batches.
    """

    shape: ViTShape
    views: list[View]
    head: nn.Module
    trained: int
    target: int
    decoder: ViTShape | None = None
    amp: bool = False
    checkpointing: bool = False
    whole: int | None = None
    whole_in_pieces: int | None = None

    @classmethod
    def of(
        cls, cfg: Config, model: Any, amp: bool = False, sharded: bool = False
    ) -> TrainingCost | None:
        """Read the sizes of a config's model; None if its backbone is no MaskedViT.

        Args:
            cfg: The config, for its views.
            model: What it builds, on any device.
            amp: Predict for autocast to bfloat16.
            sharded: The weights lie in shards over the processes.
        """
        backbone: Any = getattr(model, "backbone", None)
        if not (hasattr(backbone, "vit") and hasattr(backbone, "num_tokens")):
            return None
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return cls(
            shape=ViTShape.of(backbone.vit),
            views=read_views(cfg, model),
            head=getattr(model, "head", nn.Module()),
            trained=trained,
            target=sum(p.numel() for p in model.parameters()) - trained,
            decoder=getattr(model, "decoder_shape", None),
            amp=amp,
            checkpointing=bool(getattr(backbone, "checkpointing", False)),
            whole=whole_at_once(model) if sharded else None,
            whole_in_pieces=whole_at_once(model, recomputed=backbone) if sharded else None,
        )

    def flops(self, micro_batch: int | None = None) -> int:
        """Return the FLOPs of one source image: target forward, trained views there and back.

        The backward pass counts twice the forward pass (:meth:`ViTShape.backward_flops`);
        in micro-batches the trained networks run forward once more.
        """
        total, head_flops = 0.0, linear_flops(self.head)
        for view in self.views:
            once = 0.0
            if view.target:
                once += self.shape.forward_flops(view.whole, view.patches, view.cls_only)
                once += view.target_head_rows * head_flops
            if view.trained:
                passes = 1 if micro_batch is None else 2
                there = self.shape.forward_flops(view.tokens, view.patches, view.cls_only)
                once += passes * there + 3 * view.head_rows * head_flops
                once += self.shape.backward_flops(
                    view.tokens, view.patches, self.checkpointing, view.cls_only
                )
            if self.decoder is not None:
                once += decoder_flops(self.decoder, view, again=micro_batch is not None)
            total += view.num * once
        return round(total)

    def kept_bytes(self, images: int, micro_batch: int | None = None) -> int:
        """Return what the passes with gradients keep for ``images`` images.

        Without micro-batches that is all views' activations. With them it is those of
        one micro-batch of the view that keeps the most, and the outputs of all.
        """
        whole, most = 0, 0
        per_head_row = linear_saved_bytes(self.head)
        for view in self.views:
            if not view.trained:
                continue
            rows = images * view.num
            own = self.shape.saved_bytes(
                view.tokens, view.patches, self.amp, self.checkpointing, view.cls_only
            )
            if self.decoder is not None:
                own += decoder_bytes(self.decoder, view, self.amp)
                whole += rows * prediction_bytes(self.decoder, view)
            whole += round(rows * view.head_rows * per_head_row)
            if micro_batch is None:
                whole += rows * own
            else:
                whole += round(rows * view.head_rows * self.shape.width * FLOAT)
                most = max(most, min(self._alike(view, images), micro_batch) * own)
        return whole + most

    def _alike(self, view: View, images: int) -> int:
        """Views of a size, which a method may encode as one batch."""
        same = [v for v in self.views if (v.size, v.trained) == (view.size, view.trained)]
        return images * sum(v.num for v in same)

    def memory(self, batch: BatchPlan, micro_batch: int | None = None) -> Memory:
        """Predict the bytes that training takes on one device.

        Weights, gradients, AdamW's moments and the target are fp32; autocast adds a
        bfloat16 copy of the weights. Activations are :meth:`kept_bytes`; batches also
        lie on the device as uint8 and as fp32 pixels, and one pass holds its widest
        intermediate three times. Of weights in shards the rest lies on the other
        processes, and :attr:`whole` of them, with their gradients, are whole at once.
        """
        size = batch.process_batch
        pixels, widest = 0, 0
        for view in self.views:
            rows = size * view.num
            pixels += rows * view.patches * self.shape.patch_numbers * (FLOAT + 1)
            at_once = self._alike(view, size)
            if micro_batch is not None:
                at_once = min(at_once, micro_batch)
            wide = BFLOAT if self.amp else FLOAT
            widest = max(widest, at_once * view.tokens * self.shape.hidden * wide)
        activations = self.kept_bytes(size, micro_batch) + pixels + 3 * widest
        whole = self.whole if micro_batch is None else self.whole_in_pieces
        if whole is not None:
            share = -(-self.trained // batch.world_size)
            return Memory(
                parameters=(share + -(-self.target // batch.world_size) + whole) * FLOAT,
                gradients=(share + whole) * FLOAT,
                optimizer=2 * share * FLOAT,
                activations=activations,
            )
        return Memory(
            parameters=(self.trained + self.target) * (FLOAT + (BFLOAT if self.amp else 0)),
            gradients=self.trained * FLOAT * (2 if batch.world_size > 1 else 1),
            optimizer=2 * self.trained * FLOAT,
            activations=activations,
        )

    def views_at_once(self, batch: BatchPlan) -> int:
        """Return the most views of one size that a process has."""
        return max((self._alike(view, batch.process_batch) for view in self.views), default=1)
