"""How the last block is trained: what is fixed, and what the labelled images choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msn_mm.engine.batch import quarter_batch
from msn_mm.errors import UserError

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
EPOCHS = (30, 100)


@dataclass(frozen=True)
class Trial:
    """What is chosen: the highest learning rate and the length of a training."""

    lr: float
    epochs: int

    def __str__(self) -> str:
        return f"lr {self.lr:g} x {self.epochs} epochs"


DEFAULT_TRIAL = Trial(1e-3, 100)
"""Taken, or the nearest to it in the grid, when nothing can be chosen."""


@dataclass(frozen=True)
class PartialRecipe:
    """Everything that the trained weights depend on beside tokens and labels.

    Layer-wise decay, label smoothing, drop path, decay, betas and the shape of
    the schedule are those of appendix C.4 as ``configs/finetune_vitb16.py`` has them;
    the appendix gives neither rate nor length nor batch of partial fine-tuning.

    Attributes:
        learning_rates: Rates to choose from; the head's and the norm's, the
            block's is ``layer_decay`` of it.
        epochs: Lengths to choose from, in passes over the labelled images.
        folds: Most folds of the cross-validation.
        views: Random crops of each labelled image, one an epoch in turn; 0: its
            central view alone.
        scale: Range of the share of an image that a crop covers.
        flip: Probability of the mirror image.
        batch: Most images of an optimizer step; a quarter of fewer images, see
            :func:`~msn_mm.engine.batch.quarter_batch`.
        layer_decay: Factor from the head's rate to the block's.
        label_smoothing: Of the cross-entropy.
        drop_path: Rate of both branches of the block.
        weight_decay: Of AdamW, on all but biases and other 1-D parameters.
        betas: Of AdamW.
        warmup: Share of the steps over which the rate rises.
        seed: Seed of crops, order, drop path, folds and first weights.

    Raises:
        UserError: A number is impossible.
    """

    learning_rates: Sequence[float] = LEARNING_RATES
    epochs: Sequence[int] = EPOCHS
    folds: int = 5
    views: int = 8
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    batch: int = 256
    layer_decay: float = 0.65
    label_smoothing: float = 0.1
    drop_path: float = 0.2
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rates or not self.epochs:
            raise UserError("give at least one learning rate and one length to train with")
        if self.folds < 2:
            raise UserError(f"{self.folds} folds hold nothing out; ask for at least 2")

    @property
    def trials(self) -> list[Trial]:
        """The grid, without repetitions."""
        grid = [Trial(lr, epochs) for lr in self.learning_rates for epochs in self.epochs]
        return list(dict.fromkeys(grid))

    @property
    def default_trial(self) -> Trial:
        """What is taken of the grid where some class has one labelled image.

        The nearest to ``DEFAULT_TRIAL`` by the factors between the rates and between
        the lengths; of several the lowest rate, then the shortest.
        """

        def distance(trial: Trial) -> float:
            rates = math.log(trial.lr / DEFAULT_TRIAL.lr)
            return abs(rates) + abs(math.log(trial.epochs / DEFAULT_TRIAL.epochs))

        # Rounded: factors of one size up and down are as near.
        return min(self.trials, key=lambda t: (round(distance(t), 9), t.lr, t.epochs))

    def batch_of(self, images: int) -> int:
        """Return the images of a step of a training on ``images`` images."""
        return min(self.batch, quarter_batch(images))

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, for ``results.json``."""
        return {**asdict(self), "default_trial": asdict(self.default_trial)}

    def of_a_training(self) -> dict[str, Any]:
        """Return what one training depends on beside its images, trial and batch.

        A wider grid, more folds or another order of either change no training.
        """
        chooses = ("learning_rates", "epochs", "folds", "batch")
        return {key: value for key, value in asdict(self).items() if key not in chooses}
