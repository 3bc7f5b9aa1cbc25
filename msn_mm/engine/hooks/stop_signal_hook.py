"""A signal ends a run behind a whole step, saved, on all processes alike."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine.distributed import collective_timeout
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.step_vote import StepVote
from msn_mm.engine.stopped import SAME_REQUEST_S, TrainingStopped
from msn_mm.registry import HOOKS

_REQUEUE = "MSN_MM_REQUEUE"
_REQUEUE_TIMEOUT_S = 30.0


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Save and stop when a scheduler asks, by SIGTERM or SIGUSR1.

    The processes agree on the step without waiting for one another
    (:class:`msn_mm.engine.step_vote.StepVote`), save behind the next optimizer
    step or between two batches of a validation, and leave with
    :class:`TrainingStopped`. A second signal, more than a second later, ends the
    process at once.

    Args:
        signals: names of the signals.
        requeue: ask Slurm to start this job again, by ``scontrol requeue``;
            ``None``: when the environment has ``MSN_MM_REQUEUE=1``, as
            ``tools/slurm_train.sh`` sets it.

    Attributes:
        how_to_go_on: What the last line of a stopped run says of it.

    Raises:
        ValueError: when a signal has no such name.
        TrainingStopped: in training, once all is saved.
    """

    # Behind the checkpoint hook, whose regular save may make another needless.
    priority = "LOWEST"

    def __init__(
        self, signals: tuple[str, ...] = ("SIGTERM", "SIGUSR1"), requeue: bool | None = None
    ) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown:
            raise ValueError(f"signals: there is no signal '{unknown[0]}'")
        self.signals = [signal.Signals[name] for name in signals]
        self.requeue = requeue
        self.how_to_go_on = "with --resume"
        self._received = 0
        self._received_at = 0.0
        self._agreed = 0
        self._vote = StepVote()
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def before_train(self, runner: Runner) -> None:
        """Listen from here on."""
        self._received = self._agreed = 0
        self._process = os.getpid()
        self._vote.open(collective_timeout(runner.cfg))
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.signals}

    def release(self, together: bool = True) -> None:
        """Hand the signals back to whoever had them before the training; end the vote.

        Args:
            together: all processes do so; otherwise the last vote is not waited for.
        """
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        self._vote.release(together)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker that inherited this; the process itself was told too
        now = time.monotonic()
        if not self._received:
            self._received, self._received_at = number, now
        elif now - self._received_at > SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop behind an optimizer step, when all agree."""
        self._agreed = self._vote.cast(self._received) or self._agreed
        if self._agreed and runner.optim_wrapper.should_update():
            self._stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop within a validation, which a resumed run repeats."""
        self._agreed = self._vote.cast(self._received) or self._agreed
        if self._agreed:
            self._stop(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Listen no longer."""
        self.release()

    def _stop(self, runner: Runner, iterations: int) -> None:
        name = signal.Signals(self._agreed).name
        self._vote.close()
        saver = next((h for h in runner.hooks if isinstance(h, SafeCheckpointHook)), None)
        if saver is None:
            what = "nothing is saved (the config has no checkpoint hook)"
        else:
            file = saver.save_here(runner, iterations)
            what = f"saved as {file.name}" if file else "the state could not be saved"
        line = f"{name}: stopped after iteration {iterations}, {what}"
        if saver is not None:
            line += f"; {self._requeued(runner)}"
        runner.logger.warning(line)
        if runner.visualizer is not None:
            runner.visualizer.close()
        # srun and torchrun end all processes once one has ended: not before the file is whole.
        barrier()
        raise TrainingStopped(self._agreed, line)

    def _requeued(self, runner: Runner, environ: Mapping[str, str] = os.environ) -> str:
        by_hand = f"go on {self.how_to_go_on}"
        wanted = environ.get(_REQUEUE) == "1" if self.requeue is None else self.requeue
        job = environ.get("SLURM_JOB_ID")
        if not wanted or job is None:
            return by_hand
        if runner.rank != 0:
            return "Slurm starts the job again"
        try:
            subprocess.run(
                ["scontrol", "requeue", job],
                check=True,
                capture_output=True,
                text=True,
                timeout=_REQUEUE_TIMEOUT_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = " ".join(str(getattr(error, "stderr", None) or error).split())
            return f"scontrol requeue {job} failed ({said}): {by_hand}"
        return f"Slurm starts job {job} again, which goes on by itself"
