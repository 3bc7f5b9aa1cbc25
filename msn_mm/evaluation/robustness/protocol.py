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
        option = f"--{kind.replace('_', '-')}"
        images = folder_images(self.cfg, root, labels="folder")
        classes = class_names(images)
        outputs = self._outputs(images)
        if kind in SUBSETS:
            chosen = subset_outputs(classes, outputs, kind, f"{option} {root}")
            among: Sequence[int] | None = sorted(chosen.tolist())
        else:
            check_imagenet(outputs, option)
            check_wnids(classes, imagenet_wnids(), f"{option} {root}")
            chosen, among = outputs_of(classes, outputs, option), None
        found = self._pass(images, chosen, {"data": kind}, among)
        return {"top1": found["top1"], "images": found["images"], "classes": len(classes)}

    def imagenet_c(self, root: str | Path) -> Measured:
        """Measure the error on ImageNet-C's 75 folders.

        Returns:
            See :func:`by_corruption`; ``is_whole`` says whether these are the
            50,000 images of 1,000 classes that AlexNet's errors are of.

        Raises:
            UserError: A folder is missing or empty, or the classifier has
                other classes.
        """
        classes = check_folders(root)
        data = f"--imagenet-c {root}"
        counts = set()

        def error(corruption: str, severity: int) -> float:
            images = imagenet_c_images(self.cfg, root, corruption, severity)
            outputs = self._outputs(images)
            check_imagenet(outputs, "--imagenet-c")
            if set(classes) - set(imagenet_wnids()):
                check_wnids(classes, imagenet_wnids(), data)
            chosen = outputs_of(class_names(images), outputs, data)
            about = {"data": "imagenet_c", "corruption": corruption, "severity": severity}
            found = self._pass(images, chosen, about)
            counts.add(found["images"])
            return 100.0 - found["top1"]

        measured = by_corruption(error, CORRUPTIONS, SEVERITIES)
        is_whole = counts == {_WHOLE} and len(classes) == len(imagenet_wnids())
        return {**measured, "is_whole": is_whole, "images": max(counts), "classes": len(classes)}

    def corrupted(
        self,
        images: EvaluationImages,
        data: str,
        corruptions: Sequence[str] = CORRUPTIONS,
        severities: Sequence[int] = SEVERITIES,
        seed: int = 0,
    ) -> Measured:
        """Measure the error on images that are corrupted on the fly, and on them as they are.

        Args:
            images: Labelled images through the classifier's view.
            data: What to call them.
            corruptions: Which of the 15.
            severities: Which of the 5.
            seed: Of what is random about a corruption.

        Returns:
            See :func:`by_corruption`, and ``clean_error``.

        Raises:
            UserError: The classifier has other classes, or the library that
                corrupts is missing.
        """
        outputs = self._outputs(images)
        chosen = outputs_of(class_names(images), outputs, data, self.classifier.classes)
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
            "classes": len(class_names(images)),
        }

    def check(self, images: EvaluationImages, is_imagenet: bool) -> None:
        """Refuse a classifier that cannot take an image, or has other classes.

        Args:
            images: Labelled images, one of which is asked about.
            is_imagenet: Whether they want a classifier of ImageNet.

        Raises:
            UserError: Naming what does not fit.
        """
        outputs = self._outputs(images)
        if is_imagenet:
            check_imagenet(outputs, f"{self.name}: ImageNet's robustness data")
        else:
            known = self.classifier.classes
            outputs_of(class_names(images), outputs, f"{self.name}: --corrupt", known)

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
