"""Images in, labels out: an encoder with a classifier of a few labels on top.

Legend: m images, n labelled images, D width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.features import center_and_normalize, check_finite
from msn_mm.few_labels.calibration import probabilities
from msn_mm.few_labels.encoder import frozen_encoder
from msn_mm.few_labels.likeness import Likeness, nearest
from msn_mm.few_labels.predictor_file import Content, load_content

if TYPE_CHECKING:
    from msn_mm.few_labels.predicting import Predictions

UNKNOWN_RATE = 0.05
"""Share of images like the labelled ones that may be flagged as unknown."""


@dataclass(frozen=True)
class Answers:
    """What is said of m images.

    Attributes:
        labels: ``(m,)`` most likely class, a number.
        probabilities: ``(m, K)`` of all classes.
        nearest: ``(m,)`` number of the most similar labelled image.
        similarity: ``(m,)`` their cosine.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]


class Predictor:
    """A classifier that was learnt from a few labels, with all it needs.

    Args:
        content: Of its file.
        device: Where the encoder computes; default: the first GPU if there is one.
        amp: Let it compute in bfloat16 where that is safe.

    Attributes:
        classes: K names; labels are numbers of them.
        likeness: What an image is held against to be known.
        about: Settings, estimate and versions of the fit.

    Raises:
        UserError: The encoder's weights do not fit it, or its features the classifier.
    """

    def __init__(
        self, content: Content, device: torch.device | str | None = None, amp: bool = False
    ) -> None:
        self.content = content
        self.classes = content.classes
        self.likeness = Likeness(content.similarities.numpy())
        self.about = content.about
        self._device, self._amp = device, amp
        self._weights = content.weights.numpy()
        self._labelled = center_and_normalize(content.features.numpy())

    @cached_property
    def encoder(self) -> FrozenEncoder:
        """The encoder, built when it is first asked for."""
        content = self.content
        encoder = frozen_encoder(content.encoder, "the classifier", self._device, self._amp)
        side, wanted = content.view.crop or 1, self._weights.shape[0]
        blank = torch.zeros(1, content.view.channels, side, side, dtype=torch.uint8)
        found = encoder(blank).shape[1]
        if found != wanted:
            raise UserError(
                f"the encoder of the classifier gives {found} numbers and its weights take "
                f"{wanted}; fit it anew"
            )
        return encoder

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(n,)`` classes of the labelled images."""
        return self.content.labels.numpy()

    @property
    def paths(self) -> tuple[str, ...]:
        """n names of the labelled images."""
        return self.content.paths

    def answer(self, features: NDArray[Any]) -> Answers:
        """Classify ``(m, D)`` features as the encoder gives them.

        Raises:
            UserError: Some are not finite.
        """
        check_finite(features)
        rows = center_and_normalize(features)
        predicted = probabilities(rows @ self._weights, self.content.temperature)
        index, cosine = nearest(self._labelled, rows)
        return Answers(predicted.argmax(axis=1), predicted, index, cosine)

    def predict(self, images: str | Path, **options: Any) -> Predictions:
        """Classify a folder of images; see :func:`msn_mm.few_labels.predicting.predict`."""
        from msn_mm.few_labels.predicting import predict

        return predict(self, images, **options)


def load_predictor(
    path: str | Path, device: torch.device | str | None = None, amp: bool = False
) -> Predictor:
    """Load a classifier that ``msn-mm fit`` has written.

    Args:
        path: Its file.
        device: Where to compute; default: the first GPU if there is one.
        amp: Compute in bfloat16 where that is safe.

    Returns:
        The predictor; ``predict(folder)`` gives labels, probabilities, nearest
        labelled images and which images look unknown.

    Raises:
        UserError: There is no such file, or it is damaged or of another kind.
    """
    return Predictor(load_content(path), device, amp)
