"""MMEngine's checkpoint hook, made safe to load, to kill and to resume."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.runner import Runner

from msn_mm.engine.checkpointing import from_plain, to_plain
from msn_mm.engine.hooks.durable_checkpoint_hook import DurableCheckpointHook
from msn_mm.registry import HOOKS

_RANDOM = "random_state"


@HOOKS.register_module()
class SafeCheckpointHook(DurableCheckpointHook):
    """Write checkpoints that are whole, load with ``weights_only=True`` and resume exactly.

    Beside MMEngine's content a checkpoint holds the state of torch's random
    generators in the first process, which a resumed run continues from. The
    hook runs after all others (its priority is MMEngine's lowest), so it also
    cleans what they add.

    Args:
        max_keep_ckpts: how many checkpoints to keep, ``-1`` for all. At least
            two: MMEngine deletes the oldest before it writes the next, so one
            alone would be no checkpoint at all while it writes.
        max_history: how many past values of each logged scalar to carry on. A
            value costs a copy of the whole history, and a checkpoint holds it
            all: without a bound a million steps take milliseconds each to log
            and add hundreds of megabytes.
        **kwargs: arguments of :class:`DurableCheckpointHook` and of MMEngine's
            ``CheckpointHook``.

    Raises:
        ValueError: when ``max_keep_ckpts`` is 0 or 1, or ``max_history`` is
            below 1.
    """

    def __init__(
        self, *args: Any, max_keep_ckpts: int = 2, max_history: int = 10_000, **kwargs: Any
    ) -> None:
        if max_keep_ckpts != -1 and max_keep_ckpts < 2:
            raise ValueError(f"max_keep_ckpts must be -1 or at least 2, not {max_keep_ckpts}")
        if max_history < 1:
            raise ValueError(f"max_history must be at least 1, not {max_history}")
        self.max_history = max_history
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._random: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the random state and turn everything into safely loadable types."""
        checkpoint[_RANDOM] = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        dropped: list[str] = []
        plain = to_plain(checkpoint, dropped)
        checkpoint.clear()
        checkpoint.update(plain)
        if dropped:
            runner.logger.warning(
                f"left out of the checkpoint, as no safe load could read it: {', '.join(dropped)}"
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Rebuild what :meth:`before_save_checkpoint` turned into plain types."""
        super().after_load_checkpoint(runner, checkpoint)
        if "message_hub" in checkpoint:
            checkpoint["message_hub"] = from_plain(checkpoint["message_hub"])
        self._random = checkpoint.get(_RANDOM)

    def before_train(self, runner: Runner) -> None:
        """Continue the random state of the run that is resumed."""
        super().before_train(runner)
        # MMEngine seeds again after it has loaded a checkpoint, so not earlier.
        # Every rank takes the first one's state, as MMEngine seeds them alike.
        if runner._resume and self._random is not None:
            torch.set_rng_state(self._random["torch"].cpu())
            if torch.cuda.is_available() and self._random["cuda"] is not None:
                torch.cuda.set_rng_state(self._random["cuda"].cpu())
        self._random = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Bound the histories now and then, new scalars' too, and save as MMEngine does."""
        if batch_idx == 0 or self.every_n_train_iters(runner, 1000):
            for history in runner.message_hub.log_scalars.values():
                # The history cuts itself at its next value.
                history.max_length = self.max_history
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
