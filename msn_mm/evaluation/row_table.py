"""The rows of one request for features: found in the cache, or yet to be encoded.

Legend: n rows asked for, m of them to be encoded, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torchvision
from numpy.typing import NDArray

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.feature_cache import FeatureCache, row_ids, unique_rows

if TYPE_CHECKING:
    from msn_mm.evaluation.extraction import Mask

Rows = NDArray[np.float32]


class RowTable:
    """The rows of a request, on rank 0: what the cache had, then what is encoded.

    Args:
        encoder: What encodes.
        images: What is encoded.
        wanted: ``(n,)`` indices of the images.
        mask: Random patches to drop.
        cache: Where rows are kept, or ``None``.

    Attributes:
        missing: ``(m,)`` the images to be encoded.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        images: EvaluationImages,
        wanted: NDArray[np.int64],
        mask: Mask,
        cache: FeatureCache | None,
    ) -> None:
        ids = row_ids(images, wanted, with_index=bool(mask.ratio))
        # The same image twice is encoded once; its mask follows its index.
        self._ids, first, self._inverse = unique_rows(ids)
        self._width = encoder.width or 0
        self._rows: Rows | None = None
        self._reasons: dict[int, str] = {}
        self._cache = cache
        self._shelf = None
        if cache is not None:
            self._shelf = cache.shelf(_meaning(encoder, images, mask))
        is_found = np.zeros(len(first), dtype=bool)
        if self._shelf is not None:
            for places, rows in self._shelf.read(self._ids, encoder.width):
                self._fill(places, rows)
                is_found[places] = True
        self._places = np.flatnonzero(~is_found)
        # In the order of the request, which is that of the files on a disk.
        self._places = self._places[np.argsort(first[self._places], kind="stable")]
        self.missing = wanted[first[self._places]]
        if cache is not None:
            cache.hits += int(is_found.sum())
            cache.misses += len(self.missing)

    def put(self, rows_of_missing: NDArray[np.int64], rows: Rows) -> None:
        """Take encoded rows; ``rows_of_missing`` are their places in :attr:`missing`."""
        places = self._places[rows_of_missing]
        self._fill(places, rows)
        if self._shelf is not None:
            self._shelf.write(self._ids[places], rows)

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Take, by places in :attr:`missing`, why images cannot be encoded."""
        self._reasons |= {int(self._places[place]): why for place, why in reasons.items()}

    def unreadable(self) -> dict[int, str]:
        """Return what :meth:`leave_out` was told, by places in the request."""
        if not self._reasons:
            return {}
        of = self._inverse.tolist()
        return {i: self._reasons[of[i]] for i in range(len(of)) if of[i] in self._reasons}

    def rows(self) -> Rows:
        """Return all rows in the order of the request; NaN where an image was left out."""
        if self._shelf is not None:
            self._shelf.compact()
        if self._rows is None:
            return np.full((len(self._inverse), self._width), np.nan, dtype=np.float32)
        return self._rows[self._inverse]

    def _fill(self, places: NDArray[np.int64], rows: Rows) -> None:
        if self._rows is None:
            self._rows = np.full((len(self._ids), rows.shape[1]), np.nan, dtype=np.float32)
        self._rows[places] = rows


def _meaning(encoder: FrozenEncoder, images: EvaluationImages, mask: Mask) -> dict[str, Any] | None:
    """All that the rows of a shelf have in common; ``None`` for a view without settings."""
    view = images.transform
    settings = getattr(view, "settings", None)
    if settings is None:
        return None
    return {
        "encoder": encoder.fingerprint(),
        "about the encoder": encoder.description(),
        "view": {
            "type": f"{type(view).__module__}.{type(view).__qualname__}",
            **settings(),
            "pillow": PIL.__version__,
            "torchvision": torchvision.__version__,
        },
        "mask": asdict(mask) if mask.ratio else None,
    }
