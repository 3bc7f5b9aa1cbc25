"""Any MMEngine data set, seen as a source of views without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.keys import SampleKey
from msn_mm.datasets.replacement import show
from msn_mm.datasets.windows import Windows, windows_of
from msn_mm.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class MultiViewDataset(Dataset):
    """Wrap a data set: its images go through the transform, its labels go nowhere.

    An image that cannot be read is replaced by another; see
    :func:`msn_mm.datasets.replacement.show`.

    Args:
        dataset: A data set whose ``get_data_info`` gives ``img`` (uint8 (H, W, C),
            RGB), ``img_path`` or ``img_packed``, or its config. Its own pipeline is not used.
        transform: What turns ``{"img" | "img_path" | "img_packed", "key"}`` into views, or its
            config (:class:`msn_mm.datasets.MultiCrop`).
        max_tries: How many images in a row may be unreadable.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        transform: Mapping[str, Any] | Callable[[dict[str, Any]], dict[str, Any]],
        max_tries: int = 20,
    ) -> None:
        if max_tries < 1:
            raise ValueError(f"max_tries must be 1 or more, got {max_tries}")
        self.dataset = build_data(dataset)
        self.transform = (
            TRANSFORMS.build(transform) if isinstance(transform, Mapping) else transform
        )
        self.max_tries = max_tries

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information of the wrapped data set."""
        return dict(self.dataset.metainfo)

    @property
    def windows(self) -> Windows | None:
        """In which order the wrapped data set is to be read; None for any."""
        return windows_of(self.dataset)

    def full_init(self) -> None:
        """Load the wrapped data set's annotations, if it was told to wait."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> dict[str, Any]:
        """Return the views of one image.

        Args:
            key: A :class:`SampleKey`; a plain index counts as seed 0, epoch 0.

        Returns:
            ``inputs``: what the transform gives; ``data_samples``: ``index`` of the
            image shown and ``unreadable``, a list of (path, reason) of the images
            that were to be shown before it.

        Raises:
            UserError: If ``max_tries`` images in a row are unreadable.
        """
        key = SampleKey.of(key)
        shown = show(self.dataset, key, self.transform, self.max_tries)
        sample = {"index": shown.place, "unreadable": shown.unreadable}
        return {"inputs": shown.views, "data_samples": sample}
