"""The views that a config trains on, as predictions of cost read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from msn_mm.models.methods.base import PretrainingMethod, ViewUse
from msn_mm.models.ops.cls_block import saves_for_cls


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
        cls_only: whether the last block is computed for its CLS token alone.
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
    cls_only: bool = False

    @property
    def whole(self) -> int:
        """Tokens of the view when no patch is dropped."""
        return self.patches + self.prefix


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
        alone = not use.all_tokens and saves_for_cls(model.backbone.vit.blocks[-1])
        views.append(
            View(name, size, num, patches, tokens, use.trained, use.target, prefix, *rows, alone)
        )
    return views
