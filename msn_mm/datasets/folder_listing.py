"""What lies in a folder of images, and how to tell later that it still does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from msn_mm.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")

# Inode, and times of the last change of the entries and of the folder itself, in ns. The
# device's number is not in it: a network's file system has another on each machine.
Stamp = tuple[int, int, int]
NO_FOLDER: Stamp = (-1, -1, -1)


@dataclass
class Visited:
    """The folders of a listing: their paths, and their stamps from before they were read.

    A folder's time changes when an entry comes, goes or is renamed, but not when one
    of a folder below it does: each is there by itself. A link that leads nowhere, or
    to a file that is no image, may become one to a folder without a change here, so
    it is there too.

    Attributes:
        paths: As they were reached.
        stamps: One a path.
        devices: Numbers of the file systems that they lie on.
    """

    paths: list[str] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)
    devices: set[int] = field(default_factory=set)

    def add(self, path: str, status: os.stat_result | None) -> None:
        """Note a folder; ``None`` for what is none."""
        self.paths.append(path)
        self.stamps.append(NO_FOLDER if status is None else _stamp(status))
        if status is not None:
            self.devices.add(status.st_dev)


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def stamp_of(path: str) -> Stamp:
    """Return the stamp of a folder, :data:`NO_FOLDER` of anything else."""
    try:
        status = os.stat(os.path.join(path, ""))
    except OSError:
        return NO_FOLDER
    return _stamp(status)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def images_under(
    folder: str, visited: Visited | None = None, above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """Yield the images under a folder, however deep, entries sorted by name.

    Args:
        folder: Where to look.
        visited: Is given every folder on the way.
        above: (device, inode) of the folders on the way here, to see a loop.

    Raises:
        UserError: A folder cannot be listed.
    """
    # os.scandir and plain strings: pathlib takes several times as long, which
    # shows on a million files.
    try:
        # Before it is read: what comes in meanwhile makes its time another one.
        status = os.stat(folder)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot list folder {folder}: {error.strerror}") from error
    if visited is not None:
        visited.add(folder, status)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from images_under(entry.path, visited, (*above, here))
        elif is_image(entry.name):
            yield entry.path
        elif visited is not None and entry.is_symlink():
            visited.add(entry.path, None)
