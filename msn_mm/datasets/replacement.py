"""Another image in the place of one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from msn_mm.datasets.decode import UnreadableImageError, printable
from msn_mm.datasets.keys import REPLACEMENT_STREAM, SampleKey
from msn_mm.errors import UserError

T = TypeVar("T")

_IMAGE_KEYS = ("img", "img_packed", "img_path")


class ImageSource(Sized, Protocol):
    """What MMEngine's data sets have in common here."""

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return ``img`` or ``img_path``, and what else is known of the image."""
        ...


class Shown(NamedTuple, Generic[T]):
    """What is shown for a key.

    Attributes:
        place: Where in the data set the image is.
        info: What the data set says of it.
        views: What the transform made of it.
        unreadable: (path, reason) of each image that was to be shown before it.
    """

    place: int
    info: dict[str, Any]
    views: T
    unreadable: list[tuple[str, str]]


def show(
    dataset: ImageSource,
    key: SampleKey,
    transform: Callable[[dict[str, Any]], T],
    max_tries: int,
) -> Shown[T]:
    """Put an image through the transform; if it cannot be read, another one.

    The other one is drawn from the key, so the same one wherever and whenever
    it happens; its views are still drawn from the key that was asked for.

    Args:
        dataset: Where images come from.
        key: Which image, and where the randomness comes from.
        transform: Is given what the data set says of the pixels (``img``, ``img_packed``,
            ``img_path``), ``sample_idx`` and ``key``.
        max_tries: How many images in a row may be unreadable.

    Raises:
        UserError: If so many are, or the data set gives no images.
    """
    unreadable: list[tuple[str, str]] = []
    index = int(key)
    for attempt in range(max_tries):
        info = dataset.get_data_info(index)
        sample: dict[str, Any] = {k: info[k] for k in _IMAGE_KEYS if k in info}
        if not sample:
            raise UserError(
                f"{type(dataset).__name__} gives neither 'img' nor 'img_path'; "
                "choose a data set of images"
            )
        try:
            views = transform({**sample, "sample_idx": index, "key": key})
        except OSError as error:
            unreadable.append(_describe(error, sample, index))
            index = int(key.generator(attempt, REPLACEMENT_STREAM).integers(len(dataset)))
            continue
        return Shown(index, info, views, unreadable)
    path, reason = unreadable[-1]
    if max_tries == 1:
        raise UserError(f"cannot read image {path}: {reason}; mend or remove it")
    raise UserError(
        f"{max_tries} images in a row cannot be read, the last of them {path} ({reason}); "
        "remove the damaged files"
    )


def _describe(error: OSError, sample: dict[str, Any], index: int) -> tuple[str, str]:
    if isinstance(error, UnreadableImageError):
        return error.path, error.reason
    return printable(str(sample.get("img_path", f"number {index}"))), str(error)
