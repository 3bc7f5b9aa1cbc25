"""The few images that a user has labelled, for a measurement during pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from msn_mm.datasets.evaluation_images import EvaluationImages, Transform
from msn_mm.datasets.file_list import FileList
from msn_mm.few_labels.labels import read_labels
from msn_mm.registry import DATASETS


@DATASETS.register_module()
class UserLabels(Dataset):
    """Labelled images, as ``msn-mm fit`` reads them, for MMEngine's validation loop.

    All are there to learn from; :class:`~msn_mm.evaluation.few_labels_metric.FewLabelsMetric`
    holds out some in turn. Samples collate with MMEngine's ``default_collate``.

    Args:
        labels: A CSV with the columns ``path`` and ``label``, or a folder with one folder a
            class; see :func:`~msn_mm.few_labels.labels.read_labels`.
        transform: From a sample to uint8 (C, H, W), or its config
            (:class:`~msn_mm.datasets.EvalCrop`).
        images: Where the CSV's paths begin; default: where the CSV is.

    Raises:
        UserError: The labels cannot be read.
    """

    def __init__(
        self,
        labels: str | Path,
        transform: Mapping[str, Any] | Transform,
        images: str | Path | None = None,
    ) -> None:
        found = read_labels(labels, images)
        listed: BaseDataset = FileList(found.paths, found.labels, found.classes)
        self.images = EvaluationImages(listed, transform)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Names of the classes, as ``classes``."""
        return self.images.metainfo

    def full_init(self) -> None:
        """Do nothing: the labels are read already."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs`` uint8 (C, H, W) and ``data_samples``: index, label, support.

        Raises:
            UserError: The image is damaged.
        """
        info = self.images.dataset.get_data_info(int(index))
        inputs: torch.Tensor = self.images.view(info)
        sample = {"index": int(index), "label": int(info["gt_label"]), "support": True}
        return {"inputs": inputs, "data_samples": sample}
