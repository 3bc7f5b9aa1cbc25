"""File lists of large folders, kept between runs.

To list a million files takes seconds on a local disk and minutes on a network's.
A list is kept with the stamp of every folder that it was read from, and holds only
while all of them are as they were. It is one ``.npz`` below the user's cache folder,
``$XDG_CACHE_HOME/msn_mm/file_lists`` (``~/.cache`` where that is not set), named by a
hash of the folder's path. ``MSN_MM_KEEP_LISTS=0`` in the environment keeps none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from msn_mm.datasets.folder_listing import (
    EXTENSIONS,
    NO_FOLDER,
    Visited,
    images_under,
    stamp_of,
)
from msn_mm.datasets.image_list import ImageList
from msn_mm.errors import UserError
from msn_mm.utils.results import writing_atomically

_FORMAT = 1
# A smaller folder is listed in less time than it takes to see.
_LEAST_IMAGES = 10_000
_MOST_LISTS = 32
# Within one tick of the file system's clock a folder can change and keep its time;
# the coarsest in use (FAT) has ticks of 2 s.
_TICK_NS = 3_000_000_000

# What numpy and zipfile raise at files that are cut, changed or of another kind.
_DAMAGED = (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


def list_images(root: str) -> ImageList:
    """List the images under a folder, from the list that was kept if it still holds.

    Args:
        root: The folder, which exists.

    Raises:
        UserError: A folder cannot be listed.
    """
    place = None if os.environ.get("MSN_MM_KEEP_LISTS") == "0" else _place(root)
    if place is not None:
        kept = _read(place, root)
        if kept is not None:
            return kept
    begin = len(os.path.join(root, ""))
    visited, now = Visited(), time.time_ns()
    paths = (os.fsencode(path[begin:]) for path in images_under(root, visited))
    images = ImageList.packed(os.path.join(root, ""), paths)
    if place is not None and len(images) >= _LEAST_IMAGES and _can_be_told(visited, now):
        _write(place, root, images, visited)
    return images


def folder_of_lists() -> Path | None:
    """Return where lists are kept; ``None`` when the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification 0.8).
    if not os.path.isabs(cache):
        cache = os.path.expanduser("~/.cache")
    return Path(cache, "msn_mm", "file_lists") if os.path.isabs(cache) else None


def _place(root: str) -> Path | None:
    folder = folder_of_lists()
    name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:32]
    return folder and folder / f"{name}.npz"


def _about(root: str) -> str:
    # What is taken for an image may be another thing in another version.
    return json.dumps([_FORMAT, os.fsencode(os.path.abspath(root)).hex(), EXTENSIONS])


def _can_be_told(visited: Visited, listed: int) -> bool:
    """Whether a later change of these folders would show in their times.

    Not in a folder that changed just now, nor where the file system gives no times
    (some that put folders in front of an object store).
    """
    times = [stamp[1] for stamp in visited.stamps if stamp != NO_FOLDER]
    is_past = all(0 < when < listed - _TICK_NS for when in times)
    return is_past and not _in_user_space(visited.devices)


def _in_user_space(devices: set[int], mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether one is a FUSE mount: those of object stores may keep a folder's time."""
    names = {f"{os.major(device)}:{os.minor(device)}".encode() for device in devices}
    with contextlib.suppress(OSError), Path(mounts).open("rb") as lines:
        for line in lines:
            before, _, after = line.partition(b" - ")
            if before.split()[2] in names and after.startswith(b"fuse"):
                return True
    return False


def _read(place: Path, root: str) -> ImageList | None:
    try:
        with np.load(place, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        if bytes(content["about"]).decode() != _about(root):
            return None
        folders = _split(content["folders"], content["folder_ends"])
        stamps, below, ends = content["stamps"], content["below"], content["ends"]
        if len(folders) != len(stamps) or (len(ends) and ends[-1] != len(below)):
            raise ValueError("its parts do not fit each other")
    except FileNotFoundError:
        return None
    except OSError:
        return None  # a cache that cannot be read is none
    except _DAMAGED as error:
        _say(f"{place} is damaged ({error}); the folder is listed anew")
        return None
    # They are named from the folder, which may be written in another way this time.
    for folder, stamp in zip(folders, stamps.tolist(), strict=True):
        if stamp_of(os.path.join(root, os.fsdecode(folder))) != tuple(stamp):
            return None
    with contextlib.suppress(OSError):
        os.utime(place)
    return ImageList(
        os.path.join(root, ""), torch.from_numpy(below), torch.from_numpy(ends), labels=None
    )


def _write(place: Path, root: str, images: ImageList, visited: Visited) -> None:
    begin = len(os.path.join(root, ""))
    folders = [os.fsencode(path[begin:]) for path in visited.paths]
    with contextlib.suppress(UserError, OSError), writing_atomically(place) as file:
        np.savez(
            file,
            about=np.frombuffer(_about(root).encode(), dtype=np.uint8),
            folders=np.frombuffer(b"".join(folders), dtype=np.uint8),
            folder_ends=np.cumsum([len(folder) for folder in folders], dtype=np.int64),
            stamps=np.array(visited.stamps, dtype=np.int64),
            below=images.below.numpy(),
            ends=images.ends.numpy(),
        )
    with contextlib.suppress(OSError):
        _forget_oldest(place.parent)


def _forget_oldest(folder: Path) -> None:
    """Remove the lists that were used longest ago, beyond the newest few."""
    lists = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in lists[_MOST_LISTS:]:
        path.unlink(missing_ok=True)


def _split(joined: np.ndarray, ends: np.ndarray) -> list[bytes]:
    whole, begins = joined.tobytes(), [0, *ends.tolist()]
    return [whole[begin:end] for begin, end in pairwise(begins)]


def _say(text: str) -> None:
    print(f"warning: {' '.join(text.split())}", file=sys.stderr, flush=True)
