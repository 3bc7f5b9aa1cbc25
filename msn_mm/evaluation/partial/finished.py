"""Trainings that are done, kept in files: what a stopped run need not repeat."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msn_mm.convert.torch_file import read_tensor_file
from msn_mm.datasets import labelled_views, multi_crop
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.optim import decay_groups, layer_decay
from msn_mm.errors import UserError
from msn_mm.evaluation.finished_work import FinishedWork, Record, work_key
from msn_mm.evaluation.partial import recipe, tokens, training
from msn_mm.evaluation.partial.recipe import Trial
from msn_mm.models.classifiers import last_block
from msn_mm.models.ops import cls_block, stochastic_depth
from msn_mm.utils.results import to_json, writing_atomically

Rows = NDArray[np.int64]

# What computes a training beside the trunk, whose own code its fingerprint covers.
_CODE = (
    *(recipe, tokens, training, last_block, cls_block, stochastic_depth),
    *(decay_groups, layer_decay, labelled_views, multi_crop),
)


class FinishedTrainings(FinishedWork):
    """What finished trainings answered, of images held out within the labelled ones or of all.

    The weights of those that have yet to be asked about the held-out images
    lie in the folder ``trained`` beside the file.
    """

    parts = "trainings"

    @staticmethod
    def is_whole(record: Record) -> bool:
        """Whether it holds right answers and their loss, or accuracies; and a duration."""
        if not isinstance(record.get("seconds"), float):
            return False
        if "top1" in record:
            accuracies = [record["top1"], record.get("top5", 0.0)]
            return isinstance(record.get("tokens"), str) and all(
                isinstance(one, float) and 0 <= one <= 100 for one in accuracies
            )
        right, loss = record.get("right"), record.get("log_loss", "")
        return type(right) is int and right >= 0 and isinstance(loss, float | None)

    @property
    def weights(self) -> Path:
        """Where weights lie."""
        return self.path.parent / "trained"


class KeptTrainings:
    """The trainings on one set of labelled images; each is found by all it depends on.

    Args:
        finished: Where they are kept; ``None``: nowhere.
        about: What all of them depend on, as JSON values.
        images: ``(n,)`` what tells each labelled image, its place and its label
            from any other; see :func:`identities`.
    """

    def __init__(
        self, finished: FinishedTrainings | None, about: Mapping[str, Any], images: Sequence[bytes]
    ) -> None:
        self._finished = finished
        self._about = about
        self._images = images

    def key(self, trial: Trial, learnt: Rows, batch: int, asked: Rows | str = "") -> str:
        """Return the name of a training.

        Args:
            trial: Rate and length.
            learnt: Rows of the images that it learns from.
            batch: Most images of a step.
            asked: Rows of the labelled images that it is then asked about, or
                what tells the held-out ones from any others.
        """
        if self._finished is None:
            return ""
        return work_key(
            {
                **self._about,
                "lr": trial.lr,
                "epochs": trial.epochs,
                "batch": batch,
                "learnt": self._digest(learnt),
                "asked": asked if isinstance(asked, str) else self._digest(asked),
            }
        )

    def get(self, key: str) -> Record | None:
        """Return what a training answered, ``None`` where that is not known."""
        return None if self._finished is None else self._finished.get(key)

    def add(self, key: str, done: Record) -> None:
        """Keep what a training answered.

        Raises:
            UserError: The file cannot be written.
        """
        if self._finished is not None:
            self._finished.add(key, done)

    def answered(self, key: str, answer: Callable[[], Record]) -> Record:
        """Return what a training answered; ``answer`` trains and asks if that is not known.

        Raises:
            UserError: The file cannot be written.
        """
        done = self.get(key)
        if done is None:
            done = to_json(answer())
            self.add(key, done)
        return done

    def weights(self, key: str) -> Record | None:
        """Return what was kept of a training that waits, ``None`` where there is nothing whole."""
        if self._finished is None or not self._file(key).is_file():
            return None
        try:
            return read_tensor_file(self._file(key), mmap=False)[0]
        except UserError as error:
            print(f"warning: {error}; it is trained again", file=sys.stderr)
            return None

    def keep_weights(self, key: str, content: Record) -> None:
        """Keep a training that waits to be asked about the held-out images.

        Raises:
            UserError: The file cannot be written.
        """
        if self._finished is None:
            return
        whole = io.BytesIO()
        torch.save(content, whole)
        with writing_atomically(self._file(key)) as file:
            file.write(whole.getbuffer())

    def drop_weights(self, key: str) -> None:
        """Remove what :meth:`keep_weights` wrote, once its answers are kept."""
        if self._finished is None:
            return
        with suppress(OSError):
            self._file(key).unlink(missing_ok=True)
            self._finished.weights.rmdir()  # the last one takes the folder along

    def _file(self, key: str) -> Path:
        assert self._finished is not None
        return self._finished.weights / f"{key}.pth"

    def _digest(self, rows: Rows) -> str:
        digest = blake2b(digest_size=16)
        for row in rows:
            digest.update(self._images[row])
        return digest.hexdigest()


def identities(images: EvaluationImages, labels: NDArray[Any], indices: Rows) -> list[bytes]:
    """Return what tells each of some images, its place in its data set and its label.

    Crops and drop path follow from the place.

    Raises:
        UserError: An image's file is not there.
    """
    return [
        images.identity(int(i)) + np.array([i, labels[i]], dtype=np.int64).tobytes()
        for i in indices
    ]


def asked_images(images: EvaluationImages, labels: NDArray[Any]) -> str:
    """Return what tells these held-out images, their labels and their view from any others.

    Raises:
        UserError: An image's file is not there.
    """
    digest = blake2b(repr(sorted(images.view_settings().items())).encode(), digest_size=16)
    for one in identities(images, labels, np.arange(len(labels))):
        digest.update(one)
    return digest.hexdigest()


def training_sources() -> str:
    """Return a hash of the code that trains: an edited training is another one."""
    digest = blake2b(digest_size=16)
    for module in _CODE:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()
