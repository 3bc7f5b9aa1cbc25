"""From labelled images and an encoder to the content of a classifier's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msn_mm.datasets import EvaluationImages, FileList
from msn_mm.evaluation.cross_validation import folds_of
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.features import center_and_normalize, check_finite
from msn_mm.few_labels.encoder import EncoderSource
from msn_mm.few_labels.estimate import Estimate, estimate
from msn_mm.few_labels.labels import Labels
from msn_mm.few_labels.learning import Lambda, Learnt, learn
from msn_mm.few_labels.likeness import Likeness
from msn_mm.few_labels.predictor_file import Content
from msn_mm.utils.progress import Progress
from msn_mm.utils.protocol_options import CROSS_VALIDATION
from msn_mm.utils.results import environment


@dataclass(frozen=True)
class Fit:
    """A classifier and what is known of it.

    Attributes:
        learnt: Classifier, regularisation and temperature.
        estimate: What it is worth; ``None`` where nothing could be held out.
        content: What its file holds.
    """

    learnt: Learnt
    estimate: Estimate | None
    content: Content

    def metrics(self) -> dict[str, Any]:
        """Return the numbers as plain values; see :meth:`Estimate.to_json`."""
        found, learnt = self.estimate, self.learnt
        return {
            "estimate": None if found is None else found.to_json(self.content.classes),
            "lambd": learnt.lambd,
            "lambd_from": learnt.lambd_from,
            "temperature": learnt.temperature,
            "calibrated": learnt.is_calibrated,
        }


def fit(
    labels: Labels,
    source: EncoderSource,
    lambd: Lambda = CROSS_VALIDATION,
    *,
    seed: int = 0,
    batch_size: int = 64,
    workers: int = 0,
    amp: bool = False,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Fit:
    """Learn a classifier from labelled images, and estimate what it is worth.

    Args:
        labels: The labelled images.
        source: The frozen encoder.
        lambd: Regularisation, or ``"cv"``.
        seed: Seed of the folds.
        batch_size: Images of a batch.
        workers: Data workers.
        amp: Compute features in bfloat16 where that is safe.
        device: Where to compute; default: the first GPU if there is one.
        progress: Whether to tell a terminal how far it is.

    Raises:
        UserError: An image cannot be read, or features are not finite.
    """
    data = FileList(labels.paths, labels.labels, labels.classes)
    images = EvaluationImages(data, source.view)
    rows = extract(
        source.build(device, amp),
        images,
        batch_size=batch_size,
        workers=workers,
        progress="labelled images" if progress else None,
    )
    assert rows is not None  # one process
    check_finite(rows)
    features, numbers = center_and_normalize(rows), np.array(labels.labels, dtype=np.int64)
    label = "held out" if progress else None
    with Progress(folds_of(numbers), label, unit="parts") as shown:
        worth = estimate(features, numbers, lambd, seed, shown.step)
    learnt = learn(features, numbers, lambd, seed)
    content = Content(
        encoder=source.converted,
        view=source.view,
        classes=labels.classes,
        weights=torch.from_numpy(learnt.classifier.weights.copy()),
        temperature=learnt.temperature,
        features=torch.from_numpy(rows),
        labels=torch.from_numpy(numbers),
        paths=tuple(labels.names),
        similarities=torch.from_numpy(Likeness.among(features).similarities),
        about={},
    )
    return Fit(learnt, worth, content)


def settings(
    fitted: Fit, labels: str | Path, source: EncoderSource, lambd: Lambda, seed: int, amp: bool
) -> dict[str, Any]:
    """Return what a fit depends on, for its file and its results."""
    content = fitted.content
    return {
        "labels": str(labels),
        "images": len(content.paths),
        "classes": list(content.classes),
        "encoder": source.converted.architecture.describe(),
        "checkpoint": source.name,
        "view": source.view.settings(),
        "lambd": lambd,
        "seed": seed,
        "precision": "bfloat16 autocast" if amp else "float32",
        "versions": environment(),
    }
