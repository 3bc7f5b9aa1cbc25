"""The folders of ImageNet-C: ``<corruption>/<severity>/<class>/<image>``."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.config import Config

from msn_mm.datasets import EvalCrop, EvaluationImages
from msn_mm.errors import UserError
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES


def severity_folder(root: str | Path, corruption: str, severity: int) -> Path:
    """Return where the images of one corruption and severity lie."""
    return Path(root, corruption, str(severity))


def check_folders(root: str | Path) -> tuple[str, ...]:
    """Look at all 75 folders before the first of 75 passes.

    Args:
        root: The folder that holds the 15 corruptions.

    Returns:
        The class folders that each of them holds, sorted.

    Raises:
        UserError: A corruption, a severity or a class is missing or empty.
    """
    lacking = [name for name in CORRUPTIONS if not Path(root, name).is_dir()]
    if lacking:
        raise UserError(
            f"--imagenet-c: {root} lacks {len(lacking)} of the {len(CORRUPTIONS)} corruptions: "
            f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}; unpack all archives "
            "(blur, digital, noise, weather) into it"
        )
    first: tuple[Path, list[str]] | None = None
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            folder = severity_folder(root, corruption, severity)
            if not folder.is_dir():
                raise UserError(
                    f"--imagenet-c: {Path(root, corruption)} lacks severity {severity}; it wants "
                    "the folders 1 to 5, so unpack its archive again"
                )
            classes = _classes(folder)
            first = first or (folder, classes)
            if classes != first[1]:
                odd = sorted(set(classes) ^ set(first[1]))[0]
                there, not_there = (folder, first[0]) if odd in set(classes) else (first[0], folder)
                raise UserError(
                    f"--imagenet-c: {there} has a class folder {odd} and {not_there} has none; "
                    "unpack its archive again"
                )
    assert first is not None
    return tuple(first[1])


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


def _classes(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as listing:
            classes = sorted(e.name for e in listing if e.is_dir() and e.name[0] != ".")
        for name in classes:
            with os.scandir(folder / name) as listing:
                if not any(entry.name[0] != "." for entry in listing):
                    raise UserError(
                        f"class folder {folder / name} holds no image; unpack its archive again"
                    )
    except OSError as error:
        raise UserError(f"cannot list folder {folder}: {error.strerror}") from error
    if not classes:
        raise UserError(f"--imagenet-c: {folder} holds no class folder; unpack its archive again")
    return classes
