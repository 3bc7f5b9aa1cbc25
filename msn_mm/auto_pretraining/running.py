"""Train by a config that was written, from its start or from where it was left."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from msn_mm.auto_pretraining.record import CONFIG
from msn_mm.engine.hooks.durable_checkpoint_hook import DurableCheckpointHook
from msn_mm.engine.hooks.settled_stop_hook import SettledStopHook
from msn_mm.engine.hooks.stop_signal_hook import StopSignalHook
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.summary import report_training
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import training_checkpoints

TOOL = "msn-mm pretrain"
# Runners write the config as it is on this machine into their directory, under its name.
_AS_RUN = "as_run.py"


@dataclass(frozen=True)
class Done:
    """A training that is over.

    Attributes:
        epochs: How many it took.
        reason: Why it ended before its last, a sentence; None if it did not.
        seconds: Of the whole training, what it did before it was gone on with included;
            None if the checkpoint that it went on from does not say.
        report: Table of the last scalars.
    """

    epochs: int
    reason: str | None
    seconds: float | None
    report: str


def run_config(out: Path) -> Done:
    """Train by the config in a directory; go on if it has checkpoints.

    Args:
        out: The directory, which gets everything that is written.

    Raises:
        UserError: As :func:`~msn_mm.engine.launch.build_runner`; the training diverged or
            collapsed.
        TrainingStopped: A signal asked for it.
    """
    began = time.perf_counter()
    written = load_config(out / CONFIG)
    cfg = Config(written.to_dict(), cfg_text=written.text, filename=str(out / _AS_RUN))
    with _warnings_alone() as shown:
        runner = build_runner(cfg, work_dir=out, resume=bool(training_checkpoints(out)))
        shown.give_back(runner.logger)
    for hook in runner.hooks:
        if isinstance(hook, StopSignalHook):
            hook.how_to_go_on = "by the same command"
    try:
        train(runner)
    except FloatingPointError as error:
        raise UserError(f"{error}; with msn-mm pretrain: --lr, and another --out") from error
    seconds = time.perf_counter() - began
    reason, whole = _reason(runner), _whole_seconds(runner, seconds)
    report = report_training(
        runner, out / CONFIG, {}, seconds, tool=TOOL, settings={"stopped_early": reason}
    )
    return Done(runner.epoch, reason, whole, report)


class _Console(io.StringIO):
    """What MMEngine would print while a runner is built: hundreds of lines, all in its log file."""

    def __init__(self) -> None:
        super().__init__()
        self._real = sys.stdout

    def give_back(self, logger: logging.Logger) -> None:
        """Let the logger's console be the real one from here on."""
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self:
                handler.setStream(self._real)


@contextlib.contextmanager
def _warnings_alone() -> Iterator[_Console]:
    """Print of what is said within the warnings and errors alone, at the end."""
    console = _Console()
    try:
        with contextlib.redirect_stdout(console):
            yield console
    finally:
        for line in console.getvalue().splitlines():
            if " - WARNING - " in line or " - ERROR - " in line:
                print(line, flush=True)


def _whole_seconds(runner: Runner, own: float) -> float | None:
    """Return the duration of a training of which this process did perhaps the last part only.

    Args:
        runner: Its training is over.
        own: Seconds of this process.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, DurableCheckpointHook)), None)
    return own if hook is None or not hook.began_at else hook.run_seconds


def _reason(runner: Runner) -> str | None:
    hook = next((hook for hook in runner.hooks if isinstance(hook, SettledStopHook)), None)
    return None if hook is None else hook.reason
