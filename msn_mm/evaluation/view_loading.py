"""Views of images by data workers, those of damaged files told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from msn_mm.datasets.decode import UnreadableImageError
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.errors import UserError


class Attempts(Dataset):
    """A view of each image, or why there is none.

    Args:
        images: The images and their view.
        needs_all: A damaged image is an error instead.
    """

    def __init__(self, images: EvaluationImages, needs_all: bool = False) -> None:
        self.images = images
        self.needs_all = needs_all

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor | None, str | None]:
        if self.needs_all:
            return self.images[index], None
        info = self.images.dataset.get_data_info(int(index))
        try:
            return self.images.transform(info), None
        except UnreadableImageError as error:
            return None, error.reason


def collate_attempts(
    items: list[tuple[Tensor | None, str | None]],
) -> tuple[Tensor | None, list[str | None]]:
    """Return the views that there are as one batch, and what is said of each image."""
    views = [view for view, _ in items if view is not None]
    return stack_views(views) if views else None, [why for _, why in items]


def view_loader(
    views: Dataset,
    batches: Sequence[list[int]],
    workers: int,
    pin_memory: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """Return a loader of given batches of uint8 views.

    Args:
        views: Gives ``(C, H, W)`` for an index or a key.
        batches: What each batch holds.
        workers: Data workers; 0 reads in the process itself.
        pin_memory: Whether the batches go to a GPU.
        collate: What makes a batch of the items; default: :func:`stack_views`.
    """
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate or stack_views,
        pin_memory=pin_memory,
        # A loader draws a seed for its workers; the global generator is not ours.
        generator=torch.Generator(),
    )


def stack_views(views: list[Tensor]) -> Tensor:
    """Return views as one batch.

    Raises:
        UserError: They differ in size.
    """
    sizes = {tuple(view.shape[1:]) for view in views}
    if len(sizes) > 1:
        one, other = sorted(sizes)[:2]
        raise UserError(
            f"images of one batch differ in size, for example {one[0]} x {one[1]} and "
            f"{other[0]} x {other[1]} pixels; give the view (EvalCrop) resize and crop"
        )
    return torch.stack(views)
