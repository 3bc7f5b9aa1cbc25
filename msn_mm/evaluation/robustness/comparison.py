"""Several classifiers on the same data: one after the other, then side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.evaluation.data import part_images, seen_by
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.evaluation.robustness.classifier import frozen_classifier
from msn_mm.evaluation.robustness.corrupted_view import corrupted, library_version
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES
from msn_mm.evaluation.robustness.imagenet_c import check_folders, imagenet_c_images
from msn_mm.evaluation.robustness.measuring import Measuring
from msn_mm.evaluation.robustness.normalising import by_alexnet, by_baseline
from msn_mm.evaluation.robustness.protocol import Robustness
from msn_mm.evaluation.rows import Row
from msn_mm.evaluation.transfer_view import labelled_config

Measured = dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """What classifiers are measured on.

    Attributes:
        folders: ``imagenet_a``, ``imagenet_r``, ``imagenet_sketch`` to a folder each.
        imagenet_c: The folder of ImageNet-C's 15 corruptions.
        corrupt: A folder of images to corrupt, one folder a class.
        own: A config whose held-out images are corrupted instead.
        corruptions: Which of the 15.
        severities: Which of the 5.
        seed: Of random corruptions.
    """

    folders: Mapping[str, str]
    imagenet_c: str | None
    corrupt: str | None
    own: Config | None
    corruptions: Sequence[str]
    severities: Sequence[int]
    seed: int

    def check(self) -> list[str]:
        """Look for all that a run needs before its first pass.

        Returns:
            What to warn of: a line where ImageNet-C lacks images.

        Raises:
            UserError: The library that corrupts or a folder of ImageNet-C is missing.
        """
        if self.corrupt is not None or self.own is not None:
            library_version()
        if self.imagenet_c is not None:
            odd = check_folders(self.imagenet_c).odd
            return [] if odd is None else [f"--imagenet-c: {odd}; unpack its archive again"]
        return []

    def clean(self, cfg: Config) -> EvaluationImages | None:
        """Return the images to corrupt, through the view of a config's model."""
        if self.own is not None:
            return seen_by(held_out_images(self.own), cfg)
        return folder_images(cfg, self.corrupt, labels="folder") if self.corrupt else None

    def measure(self, robustness: Robustness) -> Measured:
        """Run all passes of one classifier.

        Returns:
            By ``imagenet_a``, ``imagenet_r``, ``imagenet_sketch``,
            ``imagenet_c`` (with AlexNet's errors as the norm) and ``corrupted``
            what was measured; what was not is left out.
        """
        found = {kind: robustness.folder(kind, root) for kind, root in self.folders.items()}
        if self.imagenet_c is not None:
            found["imagenet_c"] = by_alexnet(robustness.imagenet_c(self.imagenet_c))
        images = self.clean(robustness.cfg)
        if images is not None:
            found["corrupted"] = robustness.corrupted(
                images, self._root, self.corruptions, self.severities, self.seed
            )
        return found

    def try_one(self, robustness: Robustness) -> None:
        """Let a classifier see one image of each source, for what would fail only later.

        Raises:
            UserError: It does not take the image, or has other classes.
        """
        cfg = robustness.cfg
        for kind, root in self.folders.items():
            robustness.check(kind, folder_images(cfg, root, labels="folder"), root)
        if self.imagenet_c is not None:
            images = imagenet_c_images(cfg, self.imagenet_c, CORRUPTIONS[0], SEVERITIES[0])
            robustness.check("imagenet_c", images, self.imagenet_c)
        clean = self.clean(cfg)
        if clean is not None:
            view = corrupted(clean, self.corruptions[0], self.severities[0], self.seed)
            robustness.check("corrupt", view, self._root)

    @property
    def _root(self) -> str:
        return self.corrupt or "config"


def held_out_images(cfg: Config) -> EvaluationImages:
    """Return the images that a config classifies: its query images, or what it validates on.

    Raises:
        UserError: The config names neither.
    """
    if labelled_config(cfg) is None:
        for part in ("test", "val"):
            dataset = (cfg.get(f"{part}_dataloader") or {}).get("dataset") or {}
            if isinstance(dataset.get("dataset"), Mapping) and "transform" in dataset:
                with config_mistakes():
                    return EvaluationImages(build_data(dataset["dataset"]), dataset["transform"])
    return part_images(cfg, "query")["query"]


def compare(
    rows: Sequence[Row],
    sources: Sources,
    measuring: Measuring,
    device: torch.device | None = None,
    amp: bool = False,
    baseline: str | None = None,
) -> dict[str, Measured]:
    """Measure each classifier; a collective operation of all processes.

    Args:
        rows: Configs and checkpoints.
        sources: What they are measured on.
        measuring: How passes are run.
        device: Where to compute.
        amp: Compute in bfloat16 where that is safe.
        baseline: Name of the row that errors on corrupted images are relative to.

    Returns:
        By the row's name what :meth:`Sources.measure` returns.

    Raises:
        UserError: Something does not fit; told before the first pass of the
            first row wherever one image of each source and its classes show it.
    """

    def of(row: Row) -> Robustness:
        classifier = frozen_classifier(row.cfg, row.checkpoint, device, amp)
        return Robustness(row.name, row.cfg, classifier, measuring)

    def tried(row: Row) -> Robustness:
        robustness = of(row)
        sources.try_one(robustness)
        return robustness

    if len(rows) == 1:
        found = {rows[0].name: sources.measure(tried(rows[0]))}
    else:
        for row in rows:
            tried(row)
        found = {row.name: sources.measure(of(row)) for row in rows}
    if baseline is not None:
        reference = found[baseline]["corrupted"]
        for measured in found.values():
            measured["corrupted"] = by_baseline(measured["corrupted"], reference, baseline)
    return found
