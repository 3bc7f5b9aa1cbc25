"""Where the paths of a user's labels begin."""

from __future__ import annotations

from pathlib import Path

from msn_mm.errors import UserError
from msn_mm.few_labels.labels import read_labels


def root_of(labels: str, images: str) -> str | None:
    """Return where a CSV's paths begin: in the folder of images, or where the CSV is (None).

    All labelled images are read, so that a mistake is told before anything is trained.

    Args:
        labels: A CSV or a folder of labelled images.
        images: The folder of images.

    Raises:
        UserError: The labels cannot be read from either place.
    """
    if Path(labels).expanduser().is_dir():
        read_labels(labels)
        return None
    try:
        read_labels(labels, images)
    except UserError as error:
        try:
            read_labels(labels)
        except UserError:
            raise error from None
        return None
    return images
