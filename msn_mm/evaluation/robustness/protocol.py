"""What is measured of one classifier: appendix F of the paper, and corruptions on the fly.

Legend: K outputs of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.evaluation.robustness.class_mapping import (
    Outputs,
    check_imagenet,
    check_wnids,
    outputs_of,
    subset_outputs,
    told_by,
)
from msn_mm.evaluation.robustness.classifier import Classifier
from msn_mm.evaluation.robustness.corrupted_view import corrupted
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES, mean
from msn_mm.evaluation.robustness.imagenet_c import check_folders, imagenet_c_images
from msn_mm.evaluation.robustness.imagenet_classes import SUBSETS, imagenet_wnids
from msn_mm.evaluation.robustness.measuring import Measuring, class_names

# Images of each of ImageNet-C's 75 passes, for which AlexNet's errors hold.
_WHOLE = 50_000
Measured = dict[str, Any]


@dataclass
class Robustness:
    """The passes of one classifier.

    Attributes:
        name: What tables call it.
        cfg: Its config, which names the view.
        classifier: The classifier.
        measuring: How passes are run.
    """

    name: str
    cfg: Config
    classifier: Classifier
    measuring: Measuring
    _known_outputs: int | None = field(default=None, init=False, repr=False)

    def folder(self, kind: str, root: str | Path) -> Measured:
        """Measure top-1 on ImageNet-A, ImageNet-R or ImageNet-Sketch.

        Args:
            kind: ``imagenet_a``, ``imagenet_r`` or ``imagenet_sketch``.
            root: Its folder, one folder a WordNet id.

        Returns:
            ``top1`` in percent, ``images``, ``classes``.

        Raises:
            UserError: The folder or the classifier has other classes.
        """
        images = folder_images(self.cfg, root, labels="folder")
        chosen = self.mapping(kind, images, root)
        # sorted: the largest among a subset's own outputs
        among = sorted(chosen.tolist()) if kind in SUBSETS else None
        found = self._pass(images, chosen, {"data": kind}, among)
        return {"top1": found["top1"], "images": found["images"], "classes": len(chosen)}

    def imagenet_c(self, root: str | Path) -> Measured:
        """Measure the error on ImageNet-C's 75 folders.

        Returns:
            See :func:`by_corruption`; ``is_whole`` says whether these are the
            50,000 images of 1,000 classes that AlexNet's errors are of,
            ``fewest_images`` and ``images`` how many the smallest and the largest
            folder hold.

        Raises:
            UserError: A folder is missing or empty, or the classifier has
                other classes.
        """
        classes = check_folders(root).classes
        counts = set()

        def error(corruption: str, severity: int) -> float:
            images = imagenet_c_images(self.cfg, root, corruption, severity)
            chosen = self.mapping("imagenet_c", images, root)
            about = {"data": "imagenet_c", "corruption": corruption, "severity": severity}
            found = self._pass(images, chosen, about)
            counts.add(found["images"])
            return 100.0 - found["top1"]

        measured = by_corruption(error, CORRUPTIONS, SEVERITIES)
        return {
            **measured,
            "is_whole": counts == {_WHOLE} and len(classes) == len(imagenet_wnids()),
            "images": max(counts),
            "fewest_images": min(counts),
            "classes": len(classes),
        }

    def corrupted(
        self,
        images: EvaluationImages,
        root: str | Path,
        corruptions: Sequence[str] = CORRUPTIONS,
        severities: Sequence[int] = SEVERITIES,
        seed: int = 0,
    ) -> Measured:
        """Measure the error on images that are corrupted on the fly, and on them as they are.

        Args:
            images: Labelled images through the classifier's view.
            root: What to call them.
            corruptions: Which of the 15.
            severities: Which of the 5.
            seed: Of what is random about a corruption.

        Returns:
            See :func:`by_corruption`; ``clean_error``; and ``classes_by``, see
            :func:`~.class_mapping.told_by`.

        Raises:
            UserError: The classifier has other classes, or the library that
                corrupts is missing.
        """
        data = f"{_option('corrupt')} {root}"
        chosen = self.mapping("corrupt", images, root)
        clean = self._pass(images, chosen, {"data": data})

        def error(corruption: str, severity: int) -> float:
            view = corrupted(images, corruption, severity, seed)
            about = {"data": data, "corruption": corruption, "severity": severity}
            return 100.0 - self._pass(view, chosen, about)["top1"]

        measured = by_corruption(error, corruptions, severities)
        return {
            "clean_error": 100.0 - clean["top1"],
            **measured,
            "images": clean["images"],
            "classes": len(chosen),
            "classes_by": told_by(
                class_names(images), self._outputs(images), self.classifier.classes
            ),
        }

    def mapping(self, kind: str, images: EvaluationImages, root: str | Path) -> Outputs:
        """Return the output that stands for each class of some data.

        Args:
            kind: ``imagenet_a``, ``imagenet_r``, ``imagenet_sketch``,
                ``imagenet_c`` or ``corrupt``.
            images: The data, or a part with all of its classes.
            root: Where they are, for messages.

        Returns:
            See :func:`~.class_mapping.outputs_of`.

        Raises:
            UserError: The data or the classifier have other classes.
        """
        classes, outputs = class_names(images), self._outputs(images)
        data, known = f"{self.name}: {_option(kind)} {root}", self.classifier.classes
        if kind in SUBSETS:
            return subset_outputs(classes, outputs, kind, data, known)
        if kind != "corrupt":
            check_imagenet(outputs, f"{self.name}: {_option(kind)}")
            # a part of ImageNet-C is measured, too
            if kind != "imagenet_c" or set(classes) - set(imagenet_wnids()):
                check_wnids(classes, imagenet_wnids(), data)
        return outputs_of(classes, outputs, data, known)

    def check(self, kind: str, images: EvaluationImages, root: str | Path) -> None:
        """Refuse data that a classifier cannot be measured on, by one image and the classes.

        Args:
            kind: See :meth:`mapping`.
            images: Labelled images.
            root: Where they are, for messages.

        Raises:
            UserError: Naming what does not fit.
        """
        self._known_outputs = self.classifier.count_outputs(images[0])
        self.mapping(kind, images, root)

    def _pass(
        self,
        images: EvaluationImages,
        outputs: Outputs,
        about: Mapping[str, Any],
        among: Sequence[int] | None = None,
    ) -> Measured:
        encoder = self._all if among is None else self.classifier.answers(among)
        what = " ".join(str(word) for word in about.values())
        return self.measuring.accuracy(
            encoder, images, outputs, f"{self.name}, {what}", {"classifier": self.name, **about}
        )

    @cached_property
    def _all(self) -> FrozenEncoder:
        # One for all passes: the weights are hashed once.
        return self.classifier.answers()

    def _outputs(self, images: EvaluationImages) -> int:
        if self._known_outputs is None:
            self._known_outputs = self.classifier.count_outputs(images[0])
        return self._known_outputs


def _option(kind: str) -> str:
    return f"--{kind.replace('_', '-')}"


def by_corruption(
    error: Callable[[str, int], float], corruptions: Sequence[str], severities: Sequence[int]
) -> Measured:
    """Ask for the error at each corruption and severity.

    Args:
        error: Corruption and severity to the error rate in percent.
        corruptions: Which.
        severities: Which.

    Returns:
        ``corruptions``: by corruption ``errors`` at each severity and their mean
        ``error``; ``severities``; ``mean_error`` over all.
    """
    found: dict[str, Measured] = {}
    for corruption in corruptions:
        errors = [error(corruption, severity) for severity in severities]
        found[corruption] = {"errors": errors, "error": mean(errors)}
    return {
        "mean_error": mean([one["error"] for one in found.values()]),
        "severities": list(severities),
        "corruptions": found,
    }


def by_severity(measured: Mapping[str, Any]) -> list[float]:
    """Return the error at each severity, the mean over the corruptions.

    Args:
        measured: What :func:`by_corruption` returns.
    """
    errors = [one["errors"] for one in measured["corruptions"].values()]
    return [mean(column) for column in zip(*errors, strict=True)]
