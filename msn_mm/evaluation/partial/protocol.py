"""Partial fine-tuning on label splits, from images to accuracies, for one encoder.

Only the labelled images choose and train. The held-out images come last: each
goes once through the frozen blocks and then through every trained last block, so
their tokens are never kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.logistic_regression import score_ranks
from msn_mm.evaluation.lowshot import accuracies, summarise
from msn_mm.evaluation.partial.choice import TrialChoice, choose_trial
from msn_mm.evaluation.partial.finished import (
    FinishedTrainings,
    KeptTrainings,
    asked_images,
    identities,
    training_sources,
)
from msn_mm.evaluation.partial.recipe import PartialRecipe
from msn_mm.evaluation.partial.tokens import TokenStore, labelled_tokens, tokens_of
from msn_mm.evaluation.partial.training import LabelledTokens, LastBlockTrainer
from msn_mm.evaluation.splits import Splits, compact
from msn_mm.models.classifiers.last_block import LastBlockClassifier, trunk_with_blocks
from msn_mm.utils.progress import Progress

# Trained blocks that wait on the device for the held-out images: those of ViT-L take 50 MiB each.
_MOST_WAITING = 32


@dataclass(frozen=True)
class Computing:
    """How images are read and tokens kept; of the numbers ``batch_size`` moves the rounding alone.

    Attributes:
        batch_size: Most images of a forward pass.
        workers: Data workers.
        memory: Bytes of memory for tokens.
        directory: Where a file holds them that are more.
        finished: Trainings that need not be run again; ``None``: all are run.
    """

    batch_size: int = 64
    workers: int = 0
    memory: int = 4 * 2**30
    directory: Path = Path()
    finished: FinishedTrainings | None = None


@dataclass(frozen=True)
class Trained:
    """A finished training: which split it learnt from, what was chosen, and the result."""

    column: str
    number: int
    images: int
    choice: TrialChoice
    model: LastBlockClassifier
    seconds: float
    tokens: str
    kept: KeptTrainings
    weights: str
    answers: str


def measure_partial(
    encoder: FrozenEncoder,
    data: LabelledData,
    splits: Splits,
    recipe: PartialRecipe = PartialRecipe(),  # noqa: B008 (frozen)
    computing: Computing = Computing(),
    progress: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Fine-tune the last block on every split and measure it on the held-out images.

    Args:
        encoder: Its trunk stays as it is.
        data: Labelled and held-out images, through the view of the encoder's model.
        splits: Label splits over the labelled images.
        recipe: How to train.
        computing: How to compute.
        progress: What to call the work on the terminal; ``None`` for silence.

    Returns:
        By column what :func:`~msn_mm.evaluation.lowshot.evaluate_splits` tells of the
        accuracies (``top1``, ``top1_mean``, ``top1_std``, ``top5`` likewise), and by split
        ``chosen`` (rate, length, where they are from, the held-out accuracies),
        ``images``, ``seconds`` (of all trainings of the choice and the last one, also
        those of an earlier run) and ``tokens`` (where they lay).

    Raises:
        UserError: The trunk has no last block, an image cannot be read, there is no
            room for the tokens or for what is kept, or a training diverged.
    """
    measurement = _Measurement(encoder, data, recipe, computing, progress)
    for number in range(max(map(len, splits.values()))):
        measurement.split(
            {c: subsets[number] for c, subsets in splits.items() if number < len(subsets)}, number
        )
    measurement.ask()
    found = {column: measurement.found[column] for column in splits}
    return {
        column: summarise({key: [each[n][key] for n in sorted(each)] for key in each[0]})
        for column, each in found.items()
    }


class _Measurement:
    """The trainings of one encoder, and what they answer.

    Attributes:
        found: By column and number of the split what is told of it.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        data: LabelledData,
        recipe: PartialRecipe,
        computing: Computing,
        progress: str | None,
    ) -> None:
        trunk = trunk_with_blocks(encoder.trunk)
        self.trainer = LastBlockTrainer(trunk, recipe, encoder.amp, computing.batch_size)
        self.encoder = encoder
        self.data = data
        self.computing = computing
        self.progress = progress
        self.found: dict[str, dict[int, dict[str, Any]]] = {}
        self._waiting: list[Trained] = []
        self._about: dict[str, Any] = {}
        self._asked = ""
        if computing.finished is not None:
            self._about = {
                "encoder": encoder.fingerprint(),
                "code": training_sources(),
                "view": data.support.view_settings(),
                "classes": _num_classes(data),
                "recipe": recipe.of_a_training(),
                "batch_size": computing.batch_size,
            }
            self._asked = asked_images(data.query, data.query_labels)

    def split(self, chosen: dict[str, NDArray[np.int64]], number: int) -> None:
        """Train on every column's split of a number; the tokens go when the last one is done."""
        union, local = compact({column: [rows] for column, rows in chosen.items()})
        labels = self.data.support_labels
        is_kept = self.computing.finished is not None
        kept = KeptTrainings(
            self.computing.finished,
            self._about,
            identities(self.data.support, labels, union) if is_kept else [],
        )
        tokens = LabelledTokens(
            lambda: self._tokens(union), union, labels[union], _num_classes(self.data)
        )
        for column, (rows,) in local.items():
            self._train(tokens, kept, rows, column, number)
            if len(self._waiting) == _MOST_WAITING:
                self.ask()

    def _tokens(self, indices: NDArray[np.int64]) -> tuple[TokenStore, TokenStore]:
        """Run the frozen blocks once for each labelled image and view; crops, then central."""
        recipe, computing = self.trainer.recipe, self.computing
        with self._shown(len(indices) * (1 + recipe.views), "tokens") as shown:
            return labelled_tokens(
                self.encoder,
                self.data.support,
                indices,
                recipe,
                computing.directory,
                computing.memory,
                computing.batch_size,
                computing.workers,
                shown.to,
            )

    def _train(
        self,
        tokens: LabelledTokens,
        kept: KeptTrainings,
        rows: NDArray[np.int64],
        column: str,
        number: int,
    ) -> None:
        """Choose and train, unless an earlier run has; then nothing is computed."""
        recipe = self.trainer.recipe
        label = f"{column}, split {number}"
        with self._shown(recipe.folds * len(recipe.trials) + 1, label, "trainings") as shown:
            count = iter(range(1, 2**31))
            choice = choose_trial(self.trainer, tokens, rows, lambda: shown.to(next(count)), kept)
            asked = (choice.trial, rows, recipe.batch_of(len(rows)))
            weights, answers = kept.key(*asked), kept.key(*asked, self._asked)
            done = kept.get(answers)
            if done is not None:
                self._tell(column, number, choice, len(rows), done)
                return
            waits = kept.weights(weights)
            model = self.trainer.start(tokens.num_classes)
            if waits is None:
                started = time.perf_counter()
                model = self.trainer.train(tokens, rows, choice.trial)
                seconds = time.perf_counter() - started
                if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
                    raise _diverged(choice, column, number)
                waits = {"model": model.state_dict(), "seconds": seconds, "tokens": tokens.place}
                kept.keep_weights(weights, waits)
            else:
                model.load_state_dict(waits["model"])
                model.eval().requires_grad_(False)
        self._waiting.append(
            Trained(
                column,
                number,
                len(rows),
                choice,
                model,
                waits["seconds"],
                waits["tokens"],
                kept,
                weights,
                answers,
            )
        )

    @torch.inference_mode()
    def ask(self) -> None:
        """Classify the held-out images by all trained blocks that wait, and let these go."""
        waiting, truth = self._waiting, self.data.query_labels
        if not waiting:
            return
        ranks = np.empty((len(waiting), len(truth)), dtype=np.int64)
        done = 0
        with self._shown(len(truth), "held-out") as shown:
            for tokens in tokens_of(
                self.encoder,
                self.data.query,
                range(len(truth)),
                self.computing.batch_size,
                self.computing.workers,
            ):
                block = slice(done, done + len(tokens))
                for place, trained in enumerate(waiting):
                    scores = _finite(self.trainer.logits(trained.model, tokens), trained)
                    ranks[place, block] = score_ranks(scores, truth[block])
                done += len(tokens)
                shown.to(done)
        for trained, own in zip(waiting, ranks, strict=True):
            one: dict[str, Any] = accuracies(own, _num_classes(self.data))
            one |= {"seconds": trained.seconds, "tokens": trained.tokens}
            trained.kept.add(trained.answers, one)
            trained.kept.drop_weights(trained.weights)
            self._tell(trained.column, trained.number, trained.choice, trained.images, one)
        waiting.clear()

    def _tell(
        self, column: str, number: int, choice: TrialChoice, images: int, one: dict[str, Any]
    ) -> None:
        seconds = choice.seconds + one["seconds"]
        told = {"chosen": choice.settings(), "images": images, "seconds": seconds}
        tops = {key: value for key, value in one.items() if key.startswith("top")}
        self.found.setdefault(column, {})[number] = {**tops, **told, "tokens": one["tokens"]}

    def _shown(self, total: int, label: str, unit: str = "images") -> Progress:
        return Progress(total, None if self.progress is None else f"{self.progress}: {label}", unit)


def _finite(logits: Tensor, trained: Trained) -> NDArray[np.float64]:
    if not bool(logits.isfinite().all()):
        raise _diverged(trained.choice, trained.column, trained.number)
    return logits.double().cpu().numpy()


def _diverged(choice: TrialChoice, column: str, number: int) -> UserError:
    return UserError(
        f"partial fine-tuning diverged at {choice.trial} ({column}, split {number}); give lower "
        "--lrs"
    )


def _num_classes(data: LabelledData) -> int:
    return max(len(data.classes), int(data.support_labels.max()) + 1)
