"""What a training shows its network of one image: every view, augmented and masked.

Shapes: E epochs, V views of a group, S side, C channels, R x K patches.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from msn_mm.datasets.collate import multi_view_collate
from msn_mm.datasets.decode import UnreadableImageError, as_pixels
from msn_mm.datasets.keys import SampleKey
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.errors import UserError
from msn_mm.models.ops.position import Grid
from msn_mm.registry import DATASETS, MODELS, SCOPE, TRANSFORMS
from msn_mm.visualization.pixels import as_rgb

# What stands for a patch that the network does not see.
HIDDEN = np.array([0.93, 0.93, 0.96], dtype=np.float32)


@dataclass(frozen=True)
class ShownView:
    """One view as the network gets it.

    Attributes:
        name: Its group, as the config calls it.
        pixels: ``(S, S, C)`` float32 in [0, 1], before normalisation.
        hidden: ``(R, K)`` bool, the patches that the trained network does not see;
            None where it sees all.
        patch_size: Height and width of a patch in pixels. What it does not divide is cut
            off by the network: the last rows and columns belong to no patch.
    """

    name: str
    pixels: np.ndarray
    hidden: np.ndarray | None
    patch_size: Grid = (1, 1)


class ViewSource:
    """The views that a pre-training config makes of an image.

    The model is built on torch's meta device: of it only the masks are asked.

    Args:
        cfg: A pre-training config; not changed.
        image: A file, or the number of an image in the config's training data.

    Raises:
        UserError: If the config shows its model no groups of views, there is no
            such image, or it cannot be read.
    """

    def __init__(self, cfg: Config, image: Path | int) -> None:
        settings = copy.deepcopy(cfg)
        data = (settings.get("train_dataloader") or {}).get("dataset") or {}
        scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
        with scope, config_mistakes():
            with torch.device("meta"):
                self._model: Any = MODELS.build(copy.deepcopy(settings.model))
            if not hasattr(self._model, "hidden_patches") or "transform" not in data:
                raise UserError(
                    f"{type(self._model).__name__} is not pre-trained on groups of views; "
                    "give a pre-training config"
                )
            # Its mean and standard deviation are numbers, which the meta device has none of.
            self._preprocessor: Any = MODELS.build(settings.model.data_preprocessor)
            self._transform: Any = TRANSFORMS.build(data["transform"])
            info: dict[str, Any] = {"img_path": str(image)}
            if isinstance(image, int):
                info = _numbered(DATASETS.build(data), image)
        self._index = image if isinstance(image, int) else 0
        try:
            self.pixels: np.ndarray = as_pixels(
                info, self._transform.channels, self._transform.window
            )
        except UnreadableImageError as error:
            raise UserError(f"cannot read image {error.path}: {error.reason}") from error
        self._info = {"img": self.pixels}

    def at(self, seed: int, epoch: int) -> Iterator[ShownView]:
        """Yield the views of one epoch, group by group.

        Args:
            seed: Seed of the run.
            epoch: Epoch, from 0.
        """
        key = SampleKey(self._index, seed, epoch)
        sample = {"index": self._index, "unreadable": []}
        views = self._transform({**self._info, "key": key})
        batch = multi_view_collate([{"inputs": views, "data_samples": sample}])
        yield from views_of_batch(self._model, self._preprocessor, batch, 1)[0]


def views_of_batch(
    model: Any, preprocessor: Any, batch: Mapping[str, Any], count: int
) -> list[list[ShownView]]:
    """Return the views of a batch's first images, as the network gets them.

    Nothing random is drawn: what a view is follows its numbers and its key.

    Args:
        model: Its ``hidden_patches`` tells the masks.
        preprocessor: Augments and normalises.
        batch: As :func:`~msn_mm.datasets.collate.multi_view_collate` gives it, of B images.
        count: Images at most.

    Returns:
        For each image its views, group by group.
    """
    total = len(batch["data_samples"]["index"])
    count = min(count, total)
    first = {name: _first(group, total, count) for name, group in batch["inputs"].items()}
    groups = preprocessor({"inputs": first, "data_samples": {}}, training=True)["inputs"]
    mean, std = preprocessor.mean, preprocessor.std
    shown: list[list[ShownView]] = [[] for _ in range(count)]
    for name, group in groups.items():
        hidden = model.hidden_patches(name, group)
        images = (group["images"] * std + mean).clamp(0.0, 1.0).permute(0, 2, 3, 1)
        for row, pixels in enumerate(images.cpu().numpy()):
            view = ShownView(name, pixels, None)
            if hidden is not None:
                mask = hidden[row].cpu().numpy()
                view = replace(view, hidden=mask, patch_size=model.backbone.patch_size)
            shown[row % count].append(view)
    return shown


def painted(view: ShownView) -> np.ndarray:
    """Return the view's pixels ``(S, S, 3)``, those of hidden patches in the pale colour."""
    pixels = as_rgb(view.pixels).copy()
    if view.hidden is None:
        return pixels
    mask = np.kron(view.hidden, np.ones(view.patch_size, dtype=bool))
    pixels[: mask.shape[0], : mask.shape[1]][mask] = HIDDEN
    return pixels


def _first(group: Mapping[str, Any], total: int, count: int) -> dict[str, Any]:
    """Rows of the first images of a group; rows v * B ... v * B + B - 1 are view v."""

    def rows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.unflatten(0, (-1, total))[:, :count].flatten(0, 1)

    params = {op: rows(numbers) for op, numbers in group["params"].items()}
    return {"images": rows(group["images"]), "key": rows(group["key"]), "params": params}


def _numbered(dataset: Any, number: int) -> dict[str, Any]:
    if not 0 <= number < len(dataset):
        raise UserError(
            f"the training data has no image {number}; numbers go from 0 to {len(dataset) - 1}"
        )
    info: dict[str, Any] = dataset.dataset.get_data_info(number)
    return info
