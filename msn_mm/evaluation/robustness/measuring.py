"""One pass: a classifier's top-1 accuracy on some labelled images.

Legend: n images, L classes of the data, K outputs of the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.distributed import decided_by_first
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.finished_work import work_key
from msn_mm.evaluation.robustness.finished_passes import FinishedPasses, Pass

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Measuring:
    """How passes are run.

    Attributes:
        batch_size: Images of a batch on a process.
        workers: Data workers of a process.
        finished: Passes that need not be run again; on the first process.
    """

    batch_size: int
    workers: int
    finished: FinishedPasses | None

    def accuracy(
        self,
        encoder: FrozenEncoder,
        images: EvaluationImages,
        outputs: Labels,
        name: str,
        about: Mapping[str, Any] | None = None,
    ) -> Pass:
        """Return the accuracy on some images; a collective operation of all processes.

        Args:
            encoder: From :meth:`~.classifier.Classifier.answers`.
            images: Labelled images.
            outputs: ``(L,)`` the output that stands for each class.
            name: What to call the pass on a terminal.
            about: What to keep of the pass for a reader of the file.

        Returns:
            ``correct``, ``images`` (both counts) and ``top1`` in percent, on all
            processes.

        Raises:
            UserError: On all processes: an image cannot be read or does not fit,
                the classifier's outputs are not finite, or the file of finished
                passes cannot be written.
        """

        def find() -> tuple[str, Pass | None]:
            if self.finished is None:
                return "", None
            key = work_key(_meaning(encoder, images, outputs))
            return key, self.finished.get(key)

        key, done = decided_by_first(find)
        if done is None:
            rows = extract(
                encoder, images, batch_size=self.batch_size, workers=self.workers, progress=name
            )

            def count() -> Pass:
                assert rows is not None
                counted = count_correct(rows[:, 0], images, outputs)
                if self.finished is not None:
                    self.finished.add(key, {**(about or {}), **counted})
                return counted

            done = decided_by_first(count)
        counts = {name: int(done[name]) for name in ("correct", "images")}
        return {**counts, "top1": 100.0 * counts["correct"] / counts["images"]}


def count_correct(
    answers: NDArray[np.float32], images: EvaluationImages, outputs: Labels
) -> dict[str, int]:
    """Count right answers.

    Args:
        answers: ``(n,)`` number of the largest output, NaN where one was not finite.
        images: Labelled images.
        outputs: ``(L,)`` the output that stands for each class.

    Raises:
        UserError: Some answer is NaN.
    """
    labels = labels_of(images)
    odd = np.flatnonzero(np.isnan(answers))
    if len(odd):
        raise UserError(
            f"the classifier's outputs are not finite for {len(odd)} of {len(answers)} images, "
            f"the first {images.names[odd[0]]}; check its weights, or leave out --amp"
        )
    return {
        "correct": int((answers.astype(np.int64) == outputs[labels]).sum()),
        "images": len(labels),
    }


def labels_of(images: EvaluationImages) -> Labels:
    """Return the labels of images.

    Raises:
        UserError: They have none.
    """
    if images.labels is None:
        raise UserError("the images have no labels; give a folder with one folder a class")
    return images.labels


def class_names(images: EvaluationImages) -> tuple[str, ...]:
    """Return the names of the classes by label; their numbers where the data name none."""
    if images.classes is not None:
        return images.classes
    return tuple(str(label) for label in range(int(labels_of(images).max()) + 1))


def _meaning(encoder: FrozenEncoder, images: EvaluationImages, outputs: Labels) -> dict[str, Any]:
    digest = blake2b(labels_of(images).tobytes(), digest_size=16)
    for index in range(len(images)):
        digest.update(images.identity(index))
    return {
        "classifier": encoder.fingerprint(),
        "view": images.view_settings(),
        "images": digest.hexdigest(),
        "outputs": outputs.tolist(),
    }
