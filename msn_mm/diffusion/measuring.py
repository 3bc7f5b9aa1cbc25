"""What samples tell of a representation, in numbers: a row an RCDM, a column a mask ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from msn_mm.datasets import EvaluationImages
from msn_mm.diffusion.drawing import Drawing, Plan, draw
from msn_mm.diffusion.loading import read_pixels
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.diffusion.recognition import (
    PixelClassifier,
    at_sample_size,
    nearest_distances,
    recognised,
    untrained_conditioning,
    variety,
    variety_between_images,
)
from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.utils.results import format_table

Measured = dict[str, Any]
# The pixel classifier is for small pictures; its rows are pixels.
LARGEST_SIDE = 64


@dataclass(frozen=True)
class Judge:
    """Real images at the samples' size, and a classifier that has seen them alone.

    Attributes:
        classifier: Learnt from all training images.
        accuracy: Its accuracy on real held-out images, in percent.
        training: uint8 ``(N, C, S, S)``.
        held_out: uint8 ``(I, C, S, S)``, the images that samples are made of.
        labels: ``(I,)``.
    """

    classifier: PixelClassifier
    accuracy: float
    training: Tensor
    held_out: Tensor
    labels: NDArray[np.int64]


def judge_of(model: RCDM, data: LabelledData, indices: Sequence[int]) -> Judge:
    """Learn to recognise real images at the size of a model's samples.

    Args:
        model: The model.
        data: Labelled images as the model reads them.
        indices: Which held-out images samples are made of.

    Raises:
        UserError: The samples are too large for a classifier of pixels.
    """
    if model.image_size > LARGEST_SIDE:
        raise UserError(
            f"samples of {model.image_size} pixels: classes are recognised by a classifier of "
            f"pixels, for at most {LARGEST_SIDE}; look at the pictures of rcdm.py sample"
        )

    def small(images: EvaluationImages) -> Tensor:
        return at_sample_size(model, read_pixels(images, list(range(len(images)))))

    training, query = small(data.support), small(data.query)
    classifier = PixelClassifier(training, data.support_labels)
    accuracy = 100.0 * float(np.mean(classifier.predict(query) == data.query_labels))
    chosen = list(indices)
    return Judge(classifier, accuracy, training, query[chosen], data.query_labels[chosen])


def measure(judge: Judge, drawings: Sequence[Drawing]) -> Measured:
    """Measure one RCDM's drawings of the judge's images.

    Returns:
        ``recognised``: by mask ratio the percentage of samples that show their image's
        class; of the first ratio ``variety`` among samples of one image,
        ``variety_between_images``, and of its ``nearest`` training images the median and
        the first percentile of the distances, beside those of real held-out images.
    """
    first = drawings[0].samples
    own = nearest_distances(first.flatten(0, 1), judge.training)
    real = nearest_distances(judge.held_out, judge.training)
    return {
        "recognised": {
            f"{one.ratio:g}": recognised(judge.classifier, one.samples, judge.labels)
            for one in drawings
        },
        "variety": variety(first) if first.shape[1] > 1 else None,
        "variety_between_images": variety_between_images(first) if len(first) > 1 else None,
        "nearest": {
            "samples_median": float(np.median(own)),
            "samples_first_percentile": float(np.percentile(own, 1)),
            "real_median": float(np.median(real)),
            "real_first_percentile": float(np.percentile(real, 1)),
        },
    }


def measure_untrained(
    model: RCDM, judge: Judge, images: EvaluationImages, indices: Sequence[int], plan: Plan
) -> float:
    """Return the percentage recognised of whole images while conditioning is untrained."""
    with untrained_conditioning(model):
        (one,) = draw(model, images, indices, [0.0], plan)
    return recognised(judge.classifier, one.samples, judge.labels)


def recognition_table(rows: Mapping[str, Measured], untrained: Mapping[str, float]) -> str:
    """Lay out the share of samples recognised, columns by mask ratio."""
    ratios = list(next(iter(rows.values()))["recognised"])
    lines = [
        [name, *(f"{row['recognised'][ratio]:.1f}" for ratio in ratios)]
        for name, row in rows.items()
    ]
    for name, share in untrained.items():
        lines.append([f"{name}, conditioning untrained", f"{share:.1f}", *[""] * (len(ratios) - 1)])
    heads = [f"{float(ratio):.0%} masked" if float(ratio) else "whole" for ratio in ratios]
    return format_table(["samples recognised (%)", *heads], lines)


def variety_table(rows: Mapping[str, Measured]) -> str:
    """Lay out how samples differ, in root mean square differences of pixels from 0 to 1."""
    lines = []
    for name, row in rows.items():
        near = row["nearest"]
        values = (
            row["variety"],
            row["variety_between_images"],
            near["samples_median"],
            near["samples_first_percentile"],
            near["real_median"],
            near["real_first_percentile"],
        )
        lines.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
    heads = ["of one image", "of different images", "to training, median", "1 %"]
    return format_table(["distance of samples", *heads, "real to training, median", "1 %"], lines)
