"""Partial fine-tuning on label splits, from images to accuracies, for one encoder.

Only the labelled images choose and train. The held-out images come last: each
goes once through the frozen blocks and then through every trained last block, so
their tokens are never kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.logistic_regression import score_ranks
from msn_mm.evaluation.lowshot import accuracies, summarise
from msn_mm.evaluation.partial.choice import TrialChoice, choose_trial
from msn_mm.evaluation.partial.recipe import PartialRecipe
from msn_mm.evaluation.partial.tokens import TokenStore, crop_tokens, kept_dtype, tokens_of
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
    """

    batch_size: int = 64
    workers: int = 0
    memory: int = 4 * 2**30
    directory: Path = Path()


@dataclass(frozen=True)
class Trained:
    """A finished training: which split it learnt from, what was chosen, and the result."""

    column: str
    number: int
    images: int
    choice: TrialChoice
    model: LastBlockClassifier
    seconds: float
    store: str


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
        ``images``, ``seconds`` (choice and training) and ``tokens`` (where they lay).

    Raises:
        UserError: The trunk has no last block, an image cannot be read, there is no
            room for the tokens, or a training diverged.
    """
    trunk = trunk_with_blocks(encoder.trunk)
    trainer = LastBlockTrainer(trunk, recipe, encoder.amp, computing.batch_size)
    found: dict[str, dict[str, list[Any]]] = {column: {} for column in splits}
    waiting: list[Trained] = []
    for number in range(max(map(len, splits.values()))):
        for trained in _trainings(trainer, encoder, data, splits, number, computing, progress):
            waiting.append(trained)
            if len(waiting) == _MOST_WAITING:
                _ask(trainer, encoder, data, waiting, computing, found, progress)
    _ask(trainer, encoder, data, waiting, computing, found, progress)
    return {column: summarise(values) for column, values in found.items()}


def _trainings(
    trainer: LastBlockTrainer,
    encoder: FrozenEncoder,
    data: LabelledData,
    splits: Splits,
    number: int,
    computing: Computing,
    progress: str | None,
) -> Iterator[Trained]:
    """Train on every column's split of a number; the tokens go when the last one is done."""
    chosen = {c: [subsets[number]] for c, subsets in splits.items() if number < len(subsets)}
    union, local = compact(chosen)
    tokens = _labelled_tokens(encoder, data, union, trainer.recipe, computing, progress)
    for column, (rows,) in local.items():
        yield _train(trainer, tokens, rows, column, number, progress)


def _labelled_tokens(
    encoder: FrozenEncoder,
    data: LabelledData,
    indices: NDArray[np.int64],
    recipe: PartialRecipe,
    computing: Computing,
    progress: str | None,
) -> LabelledTokens:
    """Run the frozen blocks once for each labelled image and view."""

    def store(views: int, memory: int) -> TokenStore:
        return TokenStore(
            views,
            len(indices),
            encoder.device,
            kept_dtype(encoder),
            computing.directory,
            memory,
        )

    central = crops = store(1, computing.memory)
    total = len(indices) * (1 + recipe.views)
    label = None if progress is None else f"{progress}: tokens"
    with Progress(total, label) as shown:
        done = 0
        for tokens in tokens_of(
            encoder, data.support, indices.tolist(), computing.batch_size, computing.workers
        ):
            central.put(0, done, tokens)
            done += len(tokens)
            shown.to(done)
        if recipe.views:
            crops = store(recipe.views, computing.memory - central.size)
            crop_tokens(
                encoder,
                data.support,
                indices,
                recipe,
                crops,
                _side(data.support, int(indices[0])),
                computing.batch_size,
                computing.workers,
                lambda finished: shown.to(done + finished),
            )
    return LabelledTokens(crops, central, indices, data.support_labels[indices], _num_classes(data))


def _train(
    trainer: LastBlockTrainer,
    tokens: LabelledTokens,
    rows: NDArray[np.int64],
    column: str,
    number: int,
    progress: str | None,
) -> Trained:
    started = time.perf_counter()
    recipe = trainer.recipe
    label = None if progress is None else f"{progress}: {column}, split {number}"
    with Progress(recipe.folds * len(recipe.trials) + 1, label, unit="trainings") as shown:
        count = iter(range(1, 2**31))
        choice = choose_trial(trainer, tokens, rows, lambda: shown.to(next(count)))
        model = trainer.train(tokens, rows, choice.trial)
    if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
        raise _diverged(choice, column, number)
    return Trained(
        column,
        number,
        len(rows),
        choice,
        model,
        time.perf_counter() - started,
        f"{tokens.crops.size + (tokens.central.size if recipe.views else 0):,} bytes "
        f"{tokens.crops.place}",
    )


@torch.inference_mode()
def _ask(
    trainer: LastBlockTrainer,
    encoder: FrozenEncoder,
    data: LabelledData,
    waiting: list[Trained],
    computing: Computing,
    found: dict[str, dict[str, list[Any]]],
    progress: str | None,
) -> None:
    """Classify the held-out images by all trained blocks that wait, and let these go."""
    if not waiting:
        return
    truth = data.query_labels
    ranks = np.empty((len(waiting), len(truth)), dtype=np.int64)
    done = 0
    with Progress(len(truth), None if progress is None else f"{progress}: held-out") as shown:
        for tokens in tokens_of(
            encoder, data.query, range(len(truth)), computing.batch_size, computing.workers
        ):
            block = slice(done, done + len(tokens))
            for place, trained in enumerate(waiting):
                scores = _finite(trainer.logits(trained.model, tokens), trained)
                ranks[place, block] = score_ranks(scores, truth[block])
            done += len(tokens)
            shown.to(done)
    for trained, own in zip(waiting, ranks, strict=True):
        one: dict[str, Any] = accuracies(own, _num_classes(data))
        one |= {"chosen": trained.choice.settings(), "images": trained.images}
        one |= {"seconds": trained.seconds, "tokens": trained.store}
        for key, value in one.items():
            found[trained.column].setdefault(key, []).append(value)
    waiting.clear()


def _finite(logits: Tensor, trained: Trained) -> NDArray[np.float64]:
    if not bool(logits.isfinite().all()):
        raise _diverged(trained.choice, trained.column, trained.number)
    return logits.double().cpu().numpy()


def _diverged(choice: TrialChoice, column: str, number: int) -> UserError:
    return UserError(
        f"partial fine-tuning diverged at {choice.trial} ({column}, split {number}); give lower "
        "--lrs"
    )


def _side(images: EvaluationImages, index: int) -> int:
    # Of an image that is used: no other one need be readable.
    return min(images[index].shape[1:])


def _num_classes(data: LabelledData) -> int:
    return max(len(data.classes), int(data.support_labels.max()) + 1)


def better_of(partial: Any, linear: Any) -> dict[str, Any]:
    """Return the better of two measurements of a column, by mean top-1, as the paper does for MAE.

    The better one is chosen on the images that it is reported for.
    """
    name, values = max(
        (("linear", linear), ("partial", partial)), key=lambda pair: pair[1]["top1_mean"]
    )
    kept = {key: values[key] for key in values if key.startswith("top")}
    return {**kept, "method": name, "chosen_on": CHOSEN_ON}


CHOSEN_ON = "evaluation images, which flatters it"
