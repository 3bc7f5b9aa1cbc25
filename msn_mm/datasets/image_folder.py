"""Anyone's folder of images, without an annotation file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dataset import BaseDataset, force_full_init

from msn_mm.datasets.folder_listing import EXTENSIONS
from msn_mm.datasets.image_list import ImageList
from msn_mm.datasets.kept_lists import list_images
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS


def check_root(root: Path) -> None:
    """Refuse a ``data_root`` that is no folder.

    Raises:
        UserError: It is a file, or nothing.
    """
    if not root.exists():
        raise UserError(f"data folder {root} does not exist; set data_root to your images")
    if not root.is_dir():
        raise UserError(f"data_root {root} is a file; give the folder that holds the images")


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Every image under a folder, however deep, in one fixed order.

    Files are told by their extension, in lower or upper case; hidden files and
    folders are passed over. Symbolic links are followed, but not into a folder
    that is being listed already. Each sample has ``img_path``, and ``gt_label``
    where labels are wanted. The list is an :class:`~msn_mm.datasets.image_list.ImageList`,
    and that of a large folder is kept between runs (:mod:`msn_mm.datasets.kept_lists`).

    Args:
        data_root: The folder.
        labels: ``none``, or ``folder``: the class is the name of the folder right
            below ``data_root``, classes sorted by name.
        **kwargs: As :class:`mmengine.dataset.BaseDataset`; ``serialize_data`` has no effect,
            the list is packed already.

    Raises:
        UserError: If the folder is missing, is a file, or holds no image; with
            ``folder``, also if an image lies in no class or a class is empty.
        ValueError: If ``labels`` is something else.
    """

    def __init__(
        self,
        data_root: str | Path,
        labels: Literal["none", "folder"] = "none",
        **kwargs: Any,
    ) -> None:
        if labels not in ("none", "folder"):
            raise ValueError(f"ImageFolder: labels must be none or folder, got '{labels}'")
        self.labels = labels
        kwargs["serialize_data"] = False
        super().__init__(data_root=str(Path(data_root).expanduser()), **kwargs)

    def load_data_list(self) -> ImageList:
        """List the folder."""
        root = Path(self.data_root)
        check_root(root)
        images = list_images(str(root))
        if not len(images):
            raise UserError(
                f"no image under {root}; looked in all its folders for {' '.join(EXTENSIONS)}"
            )
        if self.labels == "folder":
            self._label(root, images)
        return images

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return ``img_path``, ``sample_idx`` and, with labels, ``gt_label`` of one image."""
        # MMEngine's copies deeply, which takes longer than the rest.
        place = int(idx) if idx >= 0 else len(self) + int(idx)
        return {**self.data_list[idx], "sample_idx": place}

    def _label(self, root: Path, images: ImageList) -> None:
        names, folder_of = images.first_folders()
        if b"" in names:
            stray = images.path(int(np.argmax(folder_of == names.index(b""))))
            raise UserError(f"image {stray} lies in no class folder; move it into one")
        classes = sorted(
            entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
        filled = [os.fsdecode(name) for name in names]
        empty = sorted(set(classes) - set(filled))
        if empty:
            raise UserError(f"class folder {root / empty[0]} holds no image; fill or remove it")
        self._metainfo["classes"] = tuple(classes)
        number = {name: k for k, name in enumerate(classes)}
        labels = np.array([number[name] for name in filled], dtype=np.int64)
        images.labels = torch.from_numpy(labels[folder_of])
