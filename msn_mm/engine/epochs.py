"""The epoch of a training, whichever loop runs it."""

from __future__ import annotations

from mmengine.runner import IterBasedTrainLoop, Runner


def epoch_of(runner: Runner) -> int:
    """Return the epoch, counted from 0, that the current iteration belongs to.

    MMEngine's loop by iterations leaves ``runner.epoch`` at 0; there an epoch is one
    pass over the training data loader.
    """
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter // len(runner.train_dataloader)
    return runner.epoch
