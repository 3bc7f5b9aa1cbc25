"""What a training shows its network of one image: every view, augmented and masked.

Shapes: E epochs, V views of a group, S side, C channels, R x K patches.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
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
from msn_mm.registry import DATASETS, MODELS, SCOPE, TRANSFORMS


@dataclass(frozen=True)
class ShownView:
    """One view as the network gets it.

    Attributes:
        name: Its group, as the config calls it.
        pixels: ``(S, S, C)`` float32 in [0, 1], before normalisation.
        hidden: ``(R, K)`` bool, the patches that the trained network does not see;
            None where it sees all.
    """

    name: str
    pixels: np.ndarray
    hidden: np.ndarray | None


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
        groups = self._preprocessor(batch, training=True)["inputs"]
        mean, std = self._preprocessor.mean, self._preprocessor.std
        for name, group in groups.items():
            hidden = self._model.hidden_patches(name, group)
            images = (group["images"] * std + mean).clamp(0.0, 1.0).permute(0, 2, 3, 1)
            for row, pixels in enumerate(images.numpy()):
                yield ShownView(name, pixels, None if hidden is None else hidden[row].numpy())


def _numbered(dataset: Any, number: int) -> dict[str, Any]:
    if not 0 <= number < len(dataset):
        raise UserError(
            f"the training data has no image {number}; numbers go from 0 to {len(dataset) - 1}"
        )
    info: dict[str, Any] = dataset.dataset.get_data_info(number)
    return info
