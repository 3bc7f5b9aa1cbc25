"""Tokens that the frozen blocks give: computed once an image and view, kept where there is room.

Legend: n images, V views of each, T tokens of a view, D width.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from msn_mm.datasets import LabelledCrop, LabelledViews
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.partial.recipe import PartialRecipe
from msn_mm.evaluation.view_loading import view_loader

GIB, MIB = 2**30, 2**20


def kept_dtype(encoder: FrozenEncoder) -> torch.dtype:
    """Return what tokens are kept in: half precision with ``amp``."""
    return torch.bfloat16 if encoder.amp else torch.float32


class TokenStore:
    """``(V, n, T, D)`` tokens, on the device, in memory, or in a file without a name.

    On a GPU they lie there if they take at most half of what is free; else in
    memory up to ``most`` bytes; else in a memory-mapped file, which the system
    removes with the process.

    Args:
        views: V.
        images: n.
        device: Where the training computes.
        dtype: What is kept.
        directory: Where such a file would be.
        most: Bytes of memory.
    """

    def __init__(
        self,
        views: int,
        images: int,
        device: torch.device,
        dtype: torch.dtype,
        directory: Path,
        most: int,
    ) -> None:
        self.views, self.images = views, images
        self.place = ""
        self._device, self._dtype = device, dtype
        self._directory, self._most = directory, most
        self._tokens: Tensor | None = None

    def put(self, view: int, start: int, tokens: Tensor) -> None:
        """Keep the ``(m, T, D)`` tokens of a view of the images from ``start`` on.

        Raises:
            UserError: There is no room.
        """
        if self._tokens is None:
            self._tokens = self._room((self.views, self.images, *tokens.shape[1:]))
        self._tokens[view, start : start + len(tokens)] = tokens

    def get(self, view: int, rows: Tensor) -> Tensor:
        """Return the tokens of a view of images by their numbers, on the device.

        float32 where half precision is kept, else as they are kept.
        """
        assert self._tokens is not None
        found = self._tokens[view].index_select(0, rows.to(self._tokens.device))
        return found.to(self._device).to(torch.promote_types(self._dtype, torch.float32))

    @property
    def size(self) -> int:
        """Bytes."""
        return 0 if self._tokens is None else self._tokens.numel() * self._tokens.element_size()

    def _room(self, shape: tuple[int, ...]) -> Tensor:
        entries = torch.Size(shape).numel()
        size = entries * self._dtype.itemsize
        if self._device.type == "cuda" and size <= torch.cuda.mem_get_info(self._device)[0] // 2:
            self.place = "on the GPU"
            return torch.empty(shape, dtype=self._dtype, device=self._device)
        if size <= self._most:
            self.place = "in memory"
            return torch.empty(shape, dtype=self._dtype)
        self.place = f"in a file below {self._directory}"
        try:
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".tokens.") as file:
                # Reserved: a mapping that runs out of room kills the process.
                os.posix_fallocate(file.fileno(), 0, size)
                # The mapping outlives the name.
                tokens = torch.from_file(file.name, shared=True, size=entries, dtype=self._dtype)
        # torch says by RuntimeError, in several lines, what the system refuses it.
        except (OSError, RuntimeError) as error:
            why = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
            mends = ["raise --memory", "give an --out with more room"]
            mends += ["lower --views"] if self.views > 1 else []
            mends += ["add --amp"] if self._dtype.itemsize > 2 else []
            room = f"{size / MIB:,.1f} MiB" if size < GIB else f"{size / GIB:,.1f} GiB"
            raise UserError(
                f"the tokens of {self.images:,} images in {self.views} view(s) take {room}, more "
                f"than --memory has left, and a file in {self._directory} cannot hold them "
                f"({why}); {', or '.join(mends)}"
            ) from error
        return tokens.view(shape)


def labelled_tokens(
    encoder: FrozenEncoder,
    images: EvaluationImages,
    indices: NDArray,
    recipe: PartialRecipe,
    directory: Path,
    memory: int,
    batch_size: int,
    workers: int,
    progress: Callable[[int], object],
) -> tuple[TokenStore, TokenStore]:
    """Run the frozen blocks once for each labelled image and view.

    Args:
        encoder: Its trunk is a :class:`~msn_mm.models.MaskedViT`.
        images: The labelled images.
        indices: Which of them.
        recipe: Says the crops.
        directory: Where a file holds what has no room in memory.
        memory: Bytes of memory for all tokens.
        batch_size: Most images of a forward pass.
        workers: Data workers.
        progress: Called with the number of finished views.

    Returns:
        Tokens to train on and tokens of the central views; one store for both where
        the recipe has no crops.

    Raises:
        UserError: An image cannot be read, or there is no room.
    """

    def store(views: int, most: int) -> TokenStore:
        return TokenStore(views, len(indices), encoder.device, kept_dtype(encoder), directory, most)

    central = store(1, memory)
    done = 0
    for tokens in tokens_of(encoder, images, indices.tolist(), batch_size, workers):
        central.put(0, done, tokens)
        done += len(tokens)
        progress(done)
    if not recipe.views:
        return central, central
    crops = store(recipe.views, memory - central.size)
    # Of an image that is used: no other one need be readable.
    side = min(images[int(indices[0])].shape[1:])
    crop_tokens(
        encoder,
        images,
        indices,
        recipe,
        crops,
        side,
        batch_size,
        workers,
        lambda finished: progress(done + finished),
    )
    return crops, central


def crop_tokens(
    encoder: FrozenEncoder,
    images: EvaluationImages,
    indices: NDArray,
    recipe: PartialRecipe,
    store: TokenStore,
    side: int,
    batch_size: int,
    workers: int,
    progress: Callable[[int], object],
) -> None:
    """Fill a store with the tokens of ``recipe.views`` random crops of each image.

    Crop v of image i is a function of (seed, i, v) alone, resampled as the images'
    fixed view is.

    Raises:
        UserError: An image cannot be read.
    """
    seen = images.view_settings()
    crop = LabelledCrop(
        side,
        recipe.scale,
        flip=recipe.flip,
        channels=encoder.in_channels,
        interpolation=seen.get("interpolation", "bilinear"),
        window=seen.get("window"),
    )
    # One try: another image must not take the place of a labelled one.
    views = _Inputs(LabelledViews(images.dataset, crop, max_tries=1))
    for view in range(recipe.views):
        keys = [SampleKey(int(index), recipe.seed, view) for index in indices]
        done = 0
        for tokens in tokens_of(encoder, views, keys, batch_size, workers):
            store.put(view, done, tokens)
            done += len(tokens)
            progress(view * len(keys) + done)


def tokens_of(
    encoder: FrozenEncoder,
    views: Dataset,
    keys: Sequence[int],
    batch_size: int,
    workers: int,
) -> Iterator[Tensor]:
    """Yield the float32 ``(B, T, D)`` tokens of views, batch by batch, in their order.

    With ``amp`` they are rounded to what a store keeps, so that every image is seen alike.

    Args:
        encoder: Its trunk is a :class:`~msn_mm.models.MaskedViT`.
        views: Gives uint8 ``(C, H, W)``.
        keys: What to ask it for.
        batch_size: B, but for the last one.
        workers: Data workers.
    """
    batches = [list(keys[start : start + batch_size]) for start in range(0, len(keys), batch_size)]
    for images in view_loader(views, batches, workers, encoder.device.type == "cuda"):
        yield encoder.tokens_before_last(images).to(kept_dtype(encoder)).float()


class _Inputs(Dataset):
    """The views alone, for data workers."""

    def __init__(self, views: LabelledViews) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, key: int) -> Tensor:
        return self.views[key]["inputs"]
