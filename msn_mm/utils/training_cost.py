"""FLOPs and memory of multi-view training, from the model's shape and the views.

The formulas of one pass are in :mod:`msn_mm.utils.vit_cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config

from msn_mm.engine.batch import BatchPlan
from msn_mm.models.methods.base import PretrainingMethod, ViewUse
from msn_mm.utils.vit_cost import BFLOAT, FLOAT, ViTShape, linear_saved_bytes


@dataclass(frozen=True)
class View:
    """One group of views of an image.

    Attributes:
        name: its name in the config.
        size: side in pixels.
        num: views of this group.
        patches: patches of one view, before any is dropped.
        tokens: tokens that enter the trained network's blocks, CLS included.
        trained: whether a network with gradients reads it.
        target: whether a target network, which takes none, reads it too, whole.
        head_rows: rows that the trained head reads of one view: CLS, and patches.
        target_head_rows: the same of the target's head.
    """

    name: str
    size: int
    num: int
    patches: int
    tokens: int
    trained: bool = True
    target: bool = False
    prefix: int = 1
    head_rows: float = 1.0
    target_head_rows: float = 1.0

    @property
    def whole(self) -> int:
        """Tokens of the view when no patch is dropped."""
        return self.patches + self.prefix


@dataclass(frozen=True)
class Memory:
    """Predicted bytes on one device.

    Attributes:
        parameters: trained ones and the target's.
        gradients: of the trained ones; twice with several processes, whose
            sums travel in buckets.
        optimizer: AdamW's two moments.
        activations: what the anchors' forward passes keep, the views' pixels,
            and the widest intermediate of one pass.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the parts, without the library's and allocator's own share."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def read_views(cfg: Config, model: Any) -> list[View]:
    """Return the views of the training data with their tokens in ``model``'s backbone."""
    transform = cfg.train_dataloader.dataset.get("transform") or {}
    groups = transform.get("views") or {}
    if not groups and transform.get("size") is not None:  # one labelled view
        groups = {"image": {"size": transform["size"]}}
    views = []
    for name, view in groups.items():
        if view.get("num", 1) == 0:
            continue
        size = int(view["size"])
        use = model.view_use(name) if isinstance(model, PretrainingMethod) else ViewUse()
        tokens = model.backbone.num_tokens(size, use.mask_ratio)
        prefix = int(model.backbone.vit.num_prefix_tokens)
        patches = model.backbone.num_tokens(size, 0.0) - prefix
        num = int(view.get("num", 1))
        rows = 1 + use.head_patches * patches, 1 + use.target_head_patches * patches
        views.append(View(name, size, num, patches, tokens, use.trained, use.target, prefix, *rows))
    return views


def train_flops(
    shape: ViTShape, views: list[View], head_flops: int, checkpointing: bool = False
) -> int:
    """Return the FLOPs of one source image: target forward, trained views forward and backward.

    The backward pass counts twice the forward pass (:meth:`ViTShape.backward_flops`).
    """
    total = 0.0
    for view in views:
        once = 0.0
        if view.target:
            once += shape.forward_flops(view.whole, view.patches)
            once += view.target_head_rows * head_flops
        if view.trained:
            once += shape.forward_flops(view.tokens, view.patches)
            once += 3 * view.head_rows * head_flops
            once += shape.backward_flops(view.tokens, view.patches, checkpointing)
        total += view.num * once
    return round(total)


def kept_bytes(
    shape: ViTShape,
    views: list[View],
    head: torch.nn.Module,
    images: int,
    amp: bool = False,
    checkpointing: bool = False,
) -> int:
    """Return what the forward passes with gradients keep for ``images`` images."""
    saved_head = linear_saved_bytes(head)
    return sum(
        images
        * view.num
        * (
            shape.saved_bytes(view.tokens, view.patches, amp, checkpointing)
            + round(view.head_rows * saved_head)
        )
        for view in views
        if view.trained
    )


def predict_memory(
    shape: ViTShape,
    views: list[View],
    head: torch.nn.Module,
    batch: BatchPlan,
    trained: int,
    target: int,
    amp: bool = False,
    checkpointing: bool = False,
    whole: int | None = None,
) -> Memory:
    """Predict the bytes that training takes on one device.

    Weights, gradients, AdamW's moments and the target are fp32; autocast adds a
    bfloat16 copy of the weights. Activations are :func:`kept_bytes`; batches also lie on the
    device as uint8 and as fp32 pixels, and one pass holds its widest
    intermediate three times. With ``whole`` the rest lies in shards over the
    processes, and that many parameters, with their gradients, are whole at once.
    """
    size = batch.process_batch
    pixels, widest = 0, 0
    for view in views:
        images = size * view.num
        pixels += images * view.patches * shape.patch_numbers * (FLOAT + 1)
        widest = max(widest, images * view.tokens * shape.hidden * (BFLOAT if amp else FLOAT))
    kept = kept_bytes(shape, views, head, size, amp, checkpointing)
    activations = kept + pixels + 3 * widest
    if whole is not None:
        share = -(-trained // batch.world_size)
        return Memory(
            parameters=(share + -(-target // batch.world_size) + whole) * FLOAT,
            gradients=(share + whole) * FLOAT,
            optimizer=2 * share * FLOAT,
            activations=activations,
        )
    return Memory(
        parameters=(trained + target) * (FLOAT + (BFLOAT if amp else 0)),
        gradients=trained * FLOAT * (2 if batch.world_size > 1 else 1),
        optimizer=2 * trained * FLOAT,
        activations=activations,
    )
