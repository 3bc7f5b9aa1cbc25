"""The folders of ImageNet-C: ``<corruption>/<severity>/<class>/<image>``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from msn_mm.datasets import EvalCrop, EvaluationImages
from msn_mm.datasets.folder_listing import images_under, is_image
from msn_mm.errors import UserError
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES


def severity_folder(root: str | Path, corruption: str, severity: int) -> Path:
    """Return where the images of one corruption and severity lie."""
    return Path(root, corruption, str(severity))


@dataclass(frozen=True)
class Folders:
    """What ImageNet-C's 75 folders hold.

    Attributes:
        classes: The class folders of each of them, sorted.
        odd: A class folder that holds another number of images than that of the
            first corruption and severity, in words; ``None`` where there is none.
    """

    classes: tuple[str, ...]
    odd: str | None


def check_folders(root: str | Path) -> Folders:
    """Look at all 75 folders before the first of 75 passes.

    Args:
        root: The folder that holds the 15 corruptions.

    Raises:
        UserError: A corruption, a severity or a class is missing or empty, or an
            image lies in no class folder.
    """
    lacking = [name for name in CORRUPTIONS if not Path(root, name).is_dir()]
    if lacking:
        raise UserError(
            f"--imagenet-c: {root} lacks {len(lacking)} of the {len(CORRUPTIONS)} corruptions: "
            f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}; unpack all archives "
            "(blur, digital, noise, weather) into it"
        )
    first: tuple[Path, dict[str, int]] | None = None
    told: str | None = None
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            folder = severity_folder(root, corruption, severity)
            if not folder.is_dir():
                raise UserError(
                    f"--imagenet-c: {Path(root, corruption)} lacks severity {severity}; it wants "
                    "the folders 1 to 5, so unpack its archive again"
                )
            counts = _count(folder)
            first = first or (folder, counts)
            if set(counts) != set(first[1]):
                odd = sorted(set(counts) ^ set(first[1]))[0]
                there, not_there = (folder, first[0]) if odd in counts else (first[0], folder)
                raise UserError(
                    f"--imagenet-c: {there} has a class folder {odd} and {not_there} has none; "
                    "unpack its archive again"
                )
            other = next((name for name in counts if counts[name] != first[1][name]), None)
            if told is None and other is not None:
                told = (
                    f"{folder / other} holds {counts[other]} images and {first[0] / other} "
                    f"{first[1][other]}"
                )
    assert first is not None
    return Folders(tuple(first[1]), told)


def imagenet_c_images(
    cfg: Config, root: str | Path, corruption: str, severity: int
) -> EvaluationImages:
    """Return the images of one corruption and severity for a config's model.

    They were cut to 224 pixels before they were corrupted, so they are resized to
    the model's size (which at 224 leaves every pixel) and lose no further margin.

    Args:
        cfg: The model's config.
        root: The folder that holds the 15 corruptions.
        corruption: Name of one.
        severity: 1 to 5.
    """
    images = folder_images(cfg, severity_folder(root, corruption, severity), labels="folder")
    view = images.transform
    assert isinstance(view, EvalCrop)
    return images.through(EvalCrop(**{**view.settings(), "resize": view.crop}))


def _count(folder: Path) -> dict[str, int]:
    """Number of images by class, classes sorted; what is an image, ``ImageFolder`` decides."""
    try:
        with os.scandir(folder) as listing:
            entries = [e for e in listing if e.name[0] != "."]
    except OSError as error:
        raise UserError(f"cannot list folder {folder}: {error.strerror}") from error
    classes = sorted(e.name for e in entries if e.is_dir())
    for entry in entries:
        if not entry.is_dir() and is_image(entry.name):
            raise UserError(f"image {entry.path} lies in no class folder; move it into one")
    if not classes:
        raise UserError(f"--imagenet-c: {folder} holds no class folder; unpack its archive again")
    counts = {name: sum(1 for _ in images_under(str(folder / name))) for name in classes}
    empty = next((name for name in classes if not counts[name]), None)
    if empty is not None:
        raise UserError(f"class folder {folder / empty} holds no image; unpack its archive again")
    return counts
