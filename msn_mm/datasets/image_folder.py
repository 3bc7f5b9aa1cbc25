"""Anyone's folder of images, without an annotation file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mmengine.dataset import BaseDataset

from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Every image under a folder, however deep, in one fixed order.

    Files are told by their extension, in lower or upper case; hidden files and
    folders are passed over. Symbolic links are followed, but not into a folder
    that is being listed already. Each sample has ``img_path``, and ``gt_label``
    where labels are wanted.

    Args:
        data_root: The folder.
        labels: ``none``, or ``folder``: the class is the name of the folder right
            below ``data_root``, classes sorted by name.
        **kwargs: As :class:`mmengine.dataset.BaseDataset`.

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
        super().__init__(data_root=str(Path(data_root).expanduser()), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the folder."""
        root = Path(self.data_root)
        if not root.exists():
            raise UserError(f"data folder {root} does not exist; set data_root to your images")
        if not root.is_dir():
            raise UserError(f"data_root {root} is a file; give the folder that holds the images")
        paths = list(images_under(str(root)))
        if not paths:
            raise UserError(
                f"no image under {root}; looked in all its folders for {' '.join(EXTENSIONS)}"
            )
        if self.labels == "none":
            return [{"img_path": path} for path in paths]
        return self._labelled(root, paths)

    def _labelled(self, root: Path, paths: list[str]) -> list[dict[str, Any]]:
        # Plain strings here too: every path begins with the folder that was listed.
        start = len(os.path.join(str(root), ""))
        names = []
        for path in paths:
            name, separator, _ = path[start:].partition(os.sep)
            if not separator:
                raise UserError(f"image {path} lies in no class folder; move it into one")
            names.append(name)
        classes = sorted(
            entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
        empty = sorted(set(classes) - set(names))
        if empty:
            raise UserError(f"class folder {root / empty[0]} holds no image; fill or remove it")
        self._metainfo["classes"] = tuple(classes)
        number = {name: k for k, name in enumerate(classes)}
        return [
            {"img_path": path, "gt_label": number[name]}
            for path, name in zip(paths, names, strict=True)
        ]


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def images_under(folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield the images under a folder, however deep, entries sorted by name.

    Args:
        folder: Where to look.
        above: (device, inode) of the folders on the way here, to see a loop.

    Raises:
        UserError: A folder cannot be listed.
    """
    # os.scandir and plain strings: pathlib takes several times as long, which
    # shows on a million files.
    try:
        status = os.stat(folder)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot list folder {folder}: {error.strerror}") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from images_under(entry.path, (*above, here))
        elif is_image(entry.name):
            yield entry.path
