"""Image files that are named one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from msn_mm.registry import DATASETS


@DATASETS.register_module()
class FileList(BaseDataset):
    """Image files in the order in which they are named.

    Each sample has ``img_path``, and ``gt_label`` where labels are given.

    Args:
        paths: The files.
        labels: A class number for each of them, or ``None``.
        classes: Names of the classes by number.
        **kwargs: As :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: There are not as many labels as files.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if labels is not None and len(labels) != len(paths):
            raise ValueError(f"FileList: {len(labels)} labels for {len(paths)} files")
        self.files = list(paths)
        self.labels = None if labels is None else list(labels)
        metainfo = {} if classes is None else {"classes": tuple(classes)}
        super().__init__(metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one sample a file."""
        if self.labels is None:
            return [{"img_path": path} for path in self.files]
        return [
            {"img_path": path, "gt_label": int(label)}
            for path, label in zip(self.files, self.labels, strict=True)
        ]
