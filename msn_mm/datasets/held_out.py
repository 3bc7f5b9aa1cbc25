"""Part of a labelled data set: what to train on, or what is held out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.keys import HELD_OUT_STREAM, philox
from msn_mm.datasets.labels import no_labels
from msn_mm.datasets.windows import Windows, windows_of
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS


@DATASETS.register_module()
class HeldOut(Dataset):
    """The images of a data set without, or only, a fixed share of each class.

    Which images are held out depends on the labels, the share and the seed alone.
    Of a class of n images ``round(fraction * n)`` are held out, of a class of two
    or more at least one and never all.

    Args:
        dataset: A labelled data set or its config.
        part: ``"train"`` or ``"held_out"``.
        fraction: Share to hold out, in (0, 1); 0 holds out none.
        seed: Seed of the choice.

    Raises:
        UserError: Images have no labels, or the part would be empty.
        ValueError: The part or the share is impossible.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        part: Literal["train", "held_out"],
        fraction: float,
        seed: int = 0,
    ) -> None:
        if part not in ("train", "held_out"):
            raise ValueError(f"part must be 'train' or 'held_out', not '{part}'")
        if not 0.0 <= fraction < 1.0:
            raise ValueError(f"fraction must lie in [0, 1), got {fraction}")
        self.dataset = build_data(dataset)
        self.part, self.fraction, self.seed = part, fraction, seed
        self.indices = self._chosen()
        if not len(self.indices):
            raise UserError(
                f"no image is held out: {len(self.dataset)} images at a share of {fraction:g}"
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information of the wrapped data set."""
        return dict(self.dataset.metainfo)

    @property
    def data_root(self) -> Any:
        """Where the wrapped data set lies."""
        return getattr(self.dataset, "data_root", None)

    @property
    def windows(self) -> Windows | None:
        """In which order the images of this part are to be read; None for any."""
        found = windows_of(self.dataset)
        return None if found is None else found.of(self.indices)

    def full_init(self) -> None:
        """The annotations were loaded to choose by."""

    def __len__(self) -> int:
        return len(self.indices)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what the wrapped data set says of an image of this part."""
        return self.dataset.get_data_info(int(self.indices[index]))

    def _chosen(self) -> np.ndarray:
        labels = np.array([self._label(i) for i in range(len(self.dataset))], dtype=np.int64)
        held = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels) if self.fraction else ():
            members = np.flatnonzero(labels == label)
            count = min(max(1, round(self.fraction * len(members))), len(members) - 1)
            rng = philox(self.seed, 0, int(label), 0, HELD_OUT_STREAM)
            held[rng.permutation(members)[:count]] = True
        return np.flatnonzero(held if self.part == "held_out" else ~held)

    def _label(self, index: int) -> int:
        info = self.dataset.get_data_info(index)
        if "gt_label" not in info:
            raise no_labels(self.dataset, "a classifier")
        return int(info["gt_label"])
