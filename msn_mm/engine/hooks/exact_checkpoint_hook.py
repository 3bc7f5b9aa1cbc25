"""What a checkpoint holds beside MMEngine's content, and how a run goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner

from msn_mm.engine.checkpointing import from_plain, to_plain
from msn_mm.engine.hook_state import hook_states, load_hook_states
from msn_mm.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from msn_mm.engine.loops.exact_epoch_loop import ExactEpochLoop
from msn_mm.engine.loops.progress import Progress
from msn_mm.engine.optimizer_steps import passes_of_a_step
from msn_mm.engine.random_state import random_state, set_random_state
from msn_mm.engine.rank_states import gather_states, state_of_rank
from msn_mm.engine.saved_paths import directory_of, drop_foreign_paths
from msn_mm.engine.schedule_resume import ScheduleReplay, replay_if_changed

_RANDOM = "random_state"
_HOOKS = "hooks"
_PROGRESS = "progress"


class ExactCheckpointHook(BestCheckpointHook):
    """Save and restore all that a training's next step depends on.

    Beside MMEngine's content a checkpoint holds the place within the epoch, the
    state of every random generator of every process, and that of the hooks that
    have one (:mod:`msn_mm.engine.hook_state`). Saving changes nothing in the
    training. The schedules are the config's where they differ from the
    checkpoint's.

    Args:
        **kwargs: arguments of :class:`BestCheckpointHook`, ``DurableCheckpointHook``
            and MMEngine's ``CheckpointHook``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ranks: list[dict[str, Any]] | None = None
        self._before_validation: dict[str, Any] | None = None
        self._replay: tuple[ScheduleReplay, Progress] | None = None

    def write_checkpoint(
        self, runner: Runner, filename: str, meta: dict[str, Any], by_epoch: bool
    ) -> bool:
        """Bring what each process must save to the one that writes, then write."""
        self._ranks = gather_states(self._state(runner))
        try:
            return super().write_checkpoint(runner, filename, meta, by_epoch)
        finally:
            self._ranks = None

    def _state(self, runner: Runner) -> dict[str, Any]:
        # A validation that was cut short is run again, from where it began.
        random = self._before_validation or random_state()
        return {_RANDOM: random, _HOOKS: hook_states(runner.hooks)}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what makes a resume exact and turn everything into safely loadable types."""
        ranks = self._ranks or [self._state(runner)]
        for name in (_RANDOM, _HOOKS):
            checkpoint[name] = [state[name] for state in ranks]
        if isinstance(runner.train_loop, ExactEpochLoop):
            meta = checkpoint["meta"]
            place = runner.train_loop.progress(meta["epoch"], meta["iter"])
            checkpoint[_PROGRESS] = place.state_dict()
        dropped: list[str] = []
        plain = to_plain(checkpoint, dropped)
        checkpoint.clear()
        checkpoint.update(plain)
        if dropped:
            runner.logger.warning(
                f"left out of the checkpoint, as no safe load could read it: {', '.join(dropped)}"
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Rebuild what :meth:`before_save_checkpoint` turned into plain types; find the place."""
        super().after_load_checkpoint(runner, checkpoint)
        if "message_hub" in checkpoint:
            checkpoint["message_hub"] = from_plain(checkpoint["message_hub"])
            source = str(runner._load_from)
            drop_foreign_paths(checkpoint["message_hub"], directory_of(self, runner), source)
        if runner._resume and isinstance(runner.train_loop, ExactEpochLoop):
            self._go_on(runner, runner.train_loop, checkpoint)

    def _go_on(self, runner: Runner, loop: ExactEpochLoop, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint["meta"]
        saved = Progress.of(checkpoint, loop.progress(meta["epoch"], meta["iter"]))
        states = {name: checkpoint.get(name) for name in (_RANDOM, _HOOKS)}

        def restore() -> None:
            # One state, without those of other processes, is an older checkpoint's.
            for name, restore_one in (
                (_HOOKS, lambda state: load_hook_states(runner.hooks, state)),
                (_RANDOM, set_random_state),
            ):
                state = states[name]
                if state:
                    restore_one(state if isinstance(state, Mapping) else state_of_rank(state))

        place = loop.go_on_from(saved, restore)
        meta["iter"] = place.iter
        replay = replay_if_changed(runner, checkpoint, moved=place.steps != saved.steps)
        self._replay = None if replay is None else (replay, place)

    def before_train(self, runner: Runner) -> None:
        """Set the schedules right where the config's are not the checkpoint's."""
        super().before_train(runner)
        if self._replay is not None:
            replay, place = self._replay
            replay.run(runner, place.epoch, place.iter)
            self._replay = None
        steps = passes_of_a_step(runner.optim_wrapper)
        if self.by_epoch and len(runner.train_dataloader) % steps:
            runner.logger.warning(
                f"an epoch of {len(runner.train_dataloader)} iterations does not end with an "
                f"optimizer step (accumulation {steps}): a run resumed at an epoch's end misses "
                "the gradients that were pending there; KeyedSampler's multiple prevents it"
            )

    def before_val(self, runner: Runner) -> None:
        """Note where the random generators were, for a save that cuts the validation short."""
        self._before_validation = random_state()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best as MMEngine does; from here on the validation counts as done."""
        self._before_validation = None
        if isinstance(runner.train_loop, ExactEpochLoop):
            runner.train_loop.validated()
        super().after_val_epoch(runner, metrics)
