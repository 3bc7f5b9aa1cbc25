"""Choose rate and length by cross-validation inside the labelled images.

Nothing here is ever given a query image.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.cross_validation import cross_validate
from msn_mm.evaluation.finished_work import Record
from msn_mm.evaluation.logistic_regression import score_log_loss, score_ranks
from msn_mm.evaluation.partial.finished import KeptTrainings
from msn_mm.evaluation.partial.recipe import Trial
from msn_mm.evaluation.partial.training import LabelledTokens, LastBlockTrainer


@dataclass(frozen=True)
class TrialChoice:
    """A chosen training and why.

    Attributes:
        trial: The choice.
        source: ``cross-validation``; ``given``, of a grid of one; or ``default``,
            where a class with a single labelled image left nothing to hold out, see
            :attr:`~msn_mm.evaluation.partial.recipe.PartialRecipe.default_trial`.
        accuracy: By trial the held-out accuracy in percent.
        log_loss: By trial the mean held-out cross-entropy in nats.
        seconds: How long the trainings took that it was chosen by.
    """

    trial: Trial
    source: str
    accuracy: dict[Trial, float]
    log_loss: dict[Trial, float]
    seconds: float = 0.0

    def settings(self) -> dict[str, Any]:
        """Return the choice for ``results.json``."""
        return {
            "lr": self.trial.lr,
            "epochs": self.trial.epochs,
            "from": self.source,
            "held_out_accuracy": {str(trial): value for trial, value in self.accuracy.items()},
            "held_out_log_loss": {str(trial): value for trial, value in self.log_loss.items()},
        }


def choose_trial(
    trainer: LastBlockTrainer,
    data: LabelledTokens,
    rows: NDArray[np.int64],
    progress: Callable[[], object] = lambda: None,
    kept: KeptTrainings = KeptTrainings(None, {}, ()),  # noqa: B008 (keeps nothing)
) -> TrialChoice:
    """Choose for one labelled subset.

    Every labelled image is held out once, in ``min(folds, images of the scarcest
    class)`` stratified folds; a training learns from the crops of the others
    and is asked about the central views of those held out. The trial with the
    most correct answers wins; of several the one with the lowest cross-entropy,
    then the lowest rate and the shortest. A training that diverges has nothing right.

    Args:
        trainer: Trunk and recipe.
        data: Labelled images.
        rows: The subset.
        progress: Called after each training.
        kept: Where what a training answered is kept; one that is there is not run again.

    Raises:
        UserError: No trial of the grid trained without diverging, or what a training
            answered cannot be kept.
    """
    recipe = trainer.recipe
    trials = recipe.trials
    if len(trials) == 1:
        return TrialChoice(trials[0], "given", {}, {})
    labels = data.labels[rows]
    batch = recipe.batch_of(len(rows))
    seconds: list[float] = []

    def held_out(
        trial: Trial, train: NDArray[np.bool_], asked: NDArray[np.bool_]
    ) -> tuple[int, float]:
        def answer() -> Record:
            started = time.perf_counter()
            model = trainer.train(data, rows[train], trial, batch)
            scores = trainer.ask(model, data, rows[asked])
            right, loss = 0, math.inf
            if np.isfinite(scores).all():
                right = int((score_ranks(scores, labels[asked]) == 0).sum())
                loss = score_log_loss(scores, labels[asked])
            return {"right": right, "log_loss": loss, "seconds": time.perf_counter() - started}

        done = kept.answered(kept.key(trial, rows[train], batch, rows[asked]), answer)
        progress()
        seconds.append(done["seconds"])
        # An infinite loss is null in the file.
        return done["right"], math.inf if done["log_loss"] is None else done["log_loss"]

    tried = cross_validate(labels, trials, held_out, recipe.seed, recipe.folds)
    if tried is None:
        return TrialChoice(recipe.default_trial, "default", {}, {})
    if all(math.isinf(loss) for _, loss in tried.values()):
        raise UserError(
            f"partial fine-tuning diverged in the cross-validation at {', '.join(map(str, trials))}"
            "; give lower --lrs"
        )
    best = max(trials, key=lambda t: (tried[t][0], -tried[t][1], -t.lr, -t.epochs))
    n = len(labels)
    return TrialChoice(
        best,
        "cross-validation",
        {trial: 100.0 * hits / n for trial, (hits, _) in tried.items()},
        {trial: loss / n for trial, (_, loss) in tried.items()},
        sum(seconds),
    )
