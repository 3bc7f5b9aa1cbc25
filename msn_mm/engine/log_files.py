"""Logs that a full disk or a vanished directory interrupts, but never the training with them."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend

# How long a log that could not be written is left alone before it is tried again.
RETRY_S = 10.0
# How messages of MMEngine begin: the environment between dashes, the config, the hooks; and
# what it warns of at every start and save.
_FOR_FILE = re.compile(r"\n-{60}\nSystem environment:|Config:\n|Hooks will be executed in the fol")
DEPRECATIONS = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
_WRITING = ("add_config", "add_graph", "add_image", "add_scalar", "add_scalars", "close")


def quieten(logger: logging.Logger) -> None:
    """Drop a logger's lines that help nobody, and keep the terminal to what happens.

    Environment, config and order of hooks are 300 lines and more, which push the first
    epochs out of sight: they go to the log file alone. MMEngine makes a ``FileClient``
    of its own at every start and save, and warns of it: nobody can do anything about it.
    """
    logger.addFilter(_is_no_deprecation)
    for handler in logger.handlers:
        # A file's handler is a StreamHandler too.
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            handler.addFilter(_is_for_terminal)


def _is_no_deprecation(record: logging.LogRecord) -> bool:
    # As it was given: what cannot be put into words fails where it is written.
    return not str(record.msg).startswith(DEPRECATIONS)


def _is_for_terminal(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not _FOR_FILE.match(str(record.msg))


def keep_logging(runner: Runner) -> None:
    """Let a runner's log file, scalars and TensorBoard files fail without ending the training.

    One line tells when a log stops, one when it goes on. What was logged in
    between is missing there; the history in the checkpoint has it.
    """
    for number, handler in enumerate(runner.logger.handlers):
        if type(handler) is logging.FileHandler:
            handler.close()
            runner.logger.handlers[number] = LastingFileHandler(handler)
    for name, backend in runner.visualizer._vis_backends.items():
        _guard(backend, name, runner.logger)
    _quieten_tensorboard()


class LastingFileHandler(WatchedFileHandler):
    """Goes on writing where ``handler`` did; makes its file again when that vanished."""

    def __init__(self, handler: logging.FileHandler) -> None:
        super().__init__(handler.baseFilename, mode="a", encoding=handler.encoding)
        self.setFormatter(handler.formatter)
        self.setLevel(handler.level)
        self.filters = handler.filters
        self._failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or tell once that lines are lost."""
        failed = self._failing
        try:
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            self._failing = False
            super().emit(record)
        except OSError:
            self.handleError(record)
        if failed and not self._failing:
            print(f"the log goes on in {self.baseFilename}", file=sys.stderr, flush=True)
        elif self._failing and not failed:
            print(
                f"warning: the log cannot be written to {self.baseFilename} ({self._reason}); "
                "the training goes on",
                file=sys.stderr,
                flush=True,
            )

    def handleError(self, record: logging.LogRecord) -> None:
        """Note a failed write; other errors are bugs and show themselves as ever."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failing, self._reason = True, error.strerror or str(error)


def _guard(backend: BaseVisBackend, name: str, logger: logging.Logger) -> None:
    """Make the writing methods of one backend tell a failed write and try again later."""
    failed_at: float | None = None

    def guarded(write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def attempt(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed_at
            if failed_at is not None and time.monotonic() - failed_at < RETRY_S:
                return None
            was_failing = failed_at is not None
            try:
                result = write(*args, **kwargs)
            except OSError as error:
                failed_at = time.monotonic()
                _reset(backend)
                if not was_failing:
                    logger.error(
                        f"{name}: nothing can be written to {backend._save_dir} "
                        f"({error.strerror or error}); the training goes on without it"
                    )
                return None
            # a write within another one may have failed
            if was_failing and failed_at is not None and time.monotonic() - failed_at >= RETRY_S:
                failed_at = None
                logger.info(f"{name}: goes on in {backend._save_dir}")
            return result

        return attempt

    for method in _WRITING:
        if hasattr(backend, method):
            setattr(backend, method, guarded(getattr(backend, method)))


def _reset(backend: BaseVisBackend) -> None:
    """Have a backend open its files anew at its next write."""
    if isinstance(backend, TensorboardVisBackend):
        with contextlib.suppress(OSError):  # its thread has stopped on the same error
            type(backend).close(backend)
        vars(backend).pop("_tensorboard", None)
    if isinstance(backend, LocalVisBackend):
        for path in Path(backend._save_dir).glob("*.json"):
            with contextlib.suppress(OSError):
                _cut_torn_line(path)
    if isinstance(backend, LocalVisBackend | TensorboardVisBackend):
        backend._env_initialized = False


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


@functools.cache
def _quieten_tensorboard() -> None:
    """Keep the traceback of TensorBoard's writing thread off the terminal.

    The thread's error is raised again in the training's own thread, where the
    guard tells it in one line.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        writer = type(args.thread).__name__ == "_AsyncWriterThread"
        if not (writer and issubclass(args.exc_type, OSError)):
            before(args)

    threading.excepthook = hook
