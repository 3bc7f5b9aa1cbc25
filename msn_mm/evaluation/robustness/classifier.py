"""A classifier from a config and a checkpoint, as what it answers about uint8 images.

Legend: B images, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmpretrain.models.classifiers.base import BaseClassifier
from torch import Tensor, nn

from msn_mm.convert.classifier import FrozenClassifier, load_classifier
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import load_weights, read_weights
from msn_mm.evaluation.encoder import FrozenEncoder, build_model
from msn_mm.evaluation.normalisation import normalisation_of, pixel_scale, wants_bgr
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor


class Answers(nn.Module):
    """The number of a classifier's largest output.

    Args:
        classifier: Normalised images ``(B, C, H, W)`` to logits ``(B, K)``.
        among: The only outputs that count, ascending; default: all.
    """

    def __init__(self, classifier: nn.Module, among: Sequence[int] | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        chosen = None if among is None else torch.tensor(list(among), dtype=torch.int64)
        self.among: Tensor | None
        self.register_buffer("among", chosen, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> float32 ``(B, 1)``; NaN where an output is not finite."""
        logits = self.classifier(images).float()
        is_finite = logits.isfinite().all(dim=1)
        if self.among is not None:
            logits = logits[:, self.among]
        answer = logits.argmax(dim=1)
        if self.among is not None:
            answer = self.among[answer]
        # whole numbers up to 2^24 are exact in float32
        return torch.where(is_finite, answer.float(), torch.nan)[:, None]


class _WholeModel(nn.Module):
    """A classifier of mmpretrain's interface as a plain function of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, mode="tensor")


@dataclass(frozen=True)
class Classifier:
    """A classifier that is measured.

    Attributes:
        module: Normalised images to logits.
        normalise: From uint8 images to what the module takes.
        is_bgr: Whether it takes its channels in the order BGR.
        device: Where it computes.
        amp: In bfloat16 where that is safe.
        classes: Names of its classes by output, where the checkpoint tells them.
    """

    module: nn.Module
    normalise: MultiViewPreprocessor
    is_bgr: bool
    device: torch.device
    amp: bool
    classes: tuple[str, ...] | None

    def answers(self, among: Sequence[int] | None = None) -> FrozenEncoder:
        """Return it as an encoder whose one feature is the number of the largest output.

        Args:
            among: The only outputs that count; default: all.
        """
        answers = Answers(self.module, among).to(self.device).eval()
        return FrozenEncoder(
            answers,
            self.normalise,
            device=self.device,
            amp=self.amp,
            is_owner=True,
            is_bgr=self.is_bgr,
        )

    def count_outputs(self, image: Tensor) -> int:
        """Return K, found by asking about one image, uint8 ``(C, H, W)``.

        Raises:
            UserError: The image does not fit the classifier, or it gives no logits.
        """
        asked = FrozenEncoder(
            self.module, self.normalise, device=self.device, amp=self.amp, is_bgr=self.is_bgr
        )
        return int(asked(image[None]).shape[1])


def frozen_classifier(
    cfg: Config | Mapping[str, Any],
    checkpoint: str | Path | None,
    device: torch.device | str | None = None,
    amp: bool = False,
    seed: int = 0,
) -> Classifier:
    """Build the classifier that a config and a checkpoint describe, frozen.

    Args:
        cfg: Its ``model`` is a classifier, one of mmpretrain's or any with a
            ``head`` of ``num_classes``, as fine-tuning trains it; with any other
            model, or none, the checkpoint itself tells the classifier, see
            :func:`~msn_mm.convert.classifier.load_classifier`.
        checkpoint: Weights of all of it; ``None`` for those that the config
            builds or that its ``checkpoint`` names.
        device: Where to compute; default: the first GPU if there is one.
        amp: Compute in bfloat16 where that is safe.
        seed: Seed of random weights.

    Raises:
        UserError: A mistake in the config, weights that do not fit, or a
            checkpoint without a classification head.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    wanted = cfg.get("model")
    model = None
    if wanted is not None:
        model = build_model(wanted, seed, wants_weights=checkpoint is None)
    if model is not None and _is_classifier(model, wanted or {}):
        if checkpoint is not None:
            load_weights(model, read_weights(checkpoint), checkpoint)
        module: nn.Module = _WholeModel(model)
        configured = cfg.get("data_preprocessor")
        normalise = normalisation_of(model, model, configured)
        classes = _classes_of(checkpoint)
        is_bgr = wants_bgr(model)
    else:
        module = _published(cfg, checkpoint)
        scale = cfg.get("data_preprocessor") or pixel_scale(module.mean, module.std)
        normalise = normalisation_of(module, module, scale)
        classes, is_bgr = None, False
    module.to(place).requires_grad_(False)
    return Classifier(module.eval(), normalise.to(place), is_bgr, place, amp, classes)


def _is_classifier(model: nn.Module, cfg: Mapping[str, Any]) -> bool:
    head = cfg.get("head")
    return isinstance(model, BaseClassifier) or (
        isinstance(head, Mapping) and "num_classes" in head
    )


def _published(cfg: Config | Mapping[str, Any], checkpoint: str | Path | None) -> FrozenClassifier:
    if checkpoint is not None:
        try:
            return load_classifier(checkpoint)
        except UserError as error:
            if str(checkpoint) in str(error):
                raise
            raise UserError(f"'{checkpoint}' as a classifier: {error}") from error
    entry = cfg.get("checkpoint")
    if not entry:
        raise UserError(
            "no checkpoint, and the config's model is no classifier: give the file of a "
            "fine-tuned or supervised classifier"
        )
    entry = {"source": entry} if isinstance(entry, str) else dict(entry)
    return load_classifier(
        entry["source"],
        entry.get("arch"),
        format=entry.get("format", "auto"),
        sha256=entry.get("sha256"),
    )


def _classes_of(checkpoint: str | Path | None) -> tuple[str, ...] | None:
    """The classes of the data set that a classifier was trained on, as MMEngine writes them."""
    if checkpoint is None:
        return None
    meta = read_source(checkpoint).content.get("meta")
    told = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    names = told.get("classes") if isinstance(told, Mapping) else None
    if isinstance(names, Sequence) and not isinstance(names, str):
        return tuple(str(name) for name in names)
    return None
