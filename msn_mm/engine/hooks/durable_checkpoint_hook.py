"""The saving half of the checkpoint hook: in which order things reach the disk, and what if not."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from msn_mm.engine.atomic_backend import ATOMIC_BACKEND, remove_unfinished
from msn_mm.engine.checkpointing import RUN, SAVED_AT
from msn_mm.engine.restart import run_ids
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import training_checkpoints

_POINTER = "last_checkpoint"
# How long the run had trained, over all its processes one after the other.
_SECONDS = "seconds"


def _written(path: Path) -> float:
    return path.stat().st_mtime


class DurableCheckpointHook(CheckpointHook):
    """Save so that a kill or a full disk at any moment leaves the previous checkpoint whole.

    The new checkpoint is on the disk first, then MMEngine's ``last_checkpoint``
    points to it, then the one too many goes. (MMEngine deletes first, so that
    saves that fail would eat up all checkpoints.) The disk must therefore hold
    ``max_keep_ckpts + 1`` at a time; when it is full, the one that is about to
    go makes room.

    Args:
        on_error: what to do when a checkpoint cannot be written (disk full,
            read-only or gone): ``"continue"`` to the next save after one loud
            line, or ``"stop"`` with one line. A directory that has vanished is
            made again. A training whose last checkpoint could not be written
            ends with an error in any case.
        **kwargs: arguments of MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: when ``on_error`` is neither, or ``out_dir`` is given: a
            resume, a restart and the summary look in the run's own directory.
    """

    def __init__(self, *args: Any, on_error: str = "continue", **kwargs: Any) -> None:
        if on_error not in ("continue", "stop"):
            raise ValueError(f"on_error must be 'continue' or 'stop', not '{on_error}'")
        self.on_error = on_error
        kwargs.setdefault("backend_args", {"backend": ATOMIC_BACKEND})
        super().__init__(*args, **kwargs)
        if self.out_dir is not None:
            raise ValueError(
                f"out_dir='{self.out_dir}' would save where no resume looks: leave it out and set "
                "work_dir (--out) to a place for the whole run"
            )
        self._failure: str | None = None  # the last save's, while it is not on the disk
        self._saved_at = 0.0
        self._began = time.monotonic()
        self._seconds_before: float | None = 0.0
        self.began_at = 0
        """Iterations that were over when this process began to train."""

    @property
    def run_seconds(self) -> float | None:
        """How long the run has trained, what it did before it was resumed included.

        ``None`` when the checkpoint it was resumed from does not say.
        """
        if self._seconds_before is None:
            return None
        return self._seconds_before + time.monotonic() - self._began

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed save left; a run from scratch withdraws the last one's pointer."""
        super().before_train(runner)
        self._began = time.monotonic()
        self.began_at = runner.iter
        if not is_main_process():
            return
        removed = remove_unfinished(self.out_dir)
        if removed:
            runner.logger.warning(
                f"removed {len(removed)} unfinished file{'s' * (len(removed) > 1)} of a save that "
                f"was killed: {', '.join(removed)}"
            )
        if not runner._resume:
            earlier = max(training_checkpoints(Path(runner.work_dir)), default=None, key=_written)
            if earlier is not None:
                runner.logger.warning(
                    f"{runner.work_dir} holds checkpoints of an earlier training ({earlier.name} "
                    "and older), which this one overwrites as it gets there; to keep them stop now "
                    "and give --resume to go on, or another --out"
                )
            (Path(runner.work_dir) / _POINTER).unlink(missing_ok=True)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note when the loaded checkpoint was saved, and after how long; the next are later."""
        meta = checkpoint.get("meta") or {}
        self._saved_at = float(meta.get(SAVED_AT, 0.0))
        if runner._resume:
            self._seconds_before = meta.get(_SECONDS)

    def after_train(self, runner: Runner) -> None:
        """Publish as MMEngine does.

        Raises:
            UserError: when the last checkpoint could not be written.
        """
        if self._failure is not None:
            raise UserError(
                f"the training is done, but its {self._failure}: make room and repeat the rest "
                "with --resume"
            )
        super().after_train(runner)

    def write_checkpoint(
        self, runner: Runner, filename: str, meta: dict[str, Any], by_epoch: bool
    ) -> bool:
        """Write one checkpoint, then move the pointer to it.

        Args:
            runner: the runner whose state is saved; all ranks call.
            filename: name in the directory of checkpoints.
            meta: ``epoch`` and ``iter`` of the checkpoint.
            by_epoch: see MMEngine's ``Runner.save_checkpoint``.

        Returns:
            Whether the checkpoint is on the disk. Ranks that do not write say yes.

        Raises:
            UserError: it is not, and ``on_error`` is ``"stop"``.
        """
        path = self.file_backend.join_path(self.out_dir, filename)
        # A clock that was set back must not make a resumed run older than its past.
        self._saved_at = max(time.time(), self._saved_at + 1e-3)
        before = runner.message_hub.get_info("last_ckpt", None)
        runner.message_hub.update_info("last_ckpt", path)
        self._failure = f"checkpoint {filename} could not be written to {self.out_dir}"
        with self._survived(runner):
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta={
                    **meta,
                    SAVED_AT: self._saved_at,
                    RUN: run_ids(),
                    _SECONDS: self.run_seconds,
                },
                by_epoch=by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            self._failure = None
        if self._failure is not None:
            runner.message_hub.update_info("last_ckpt", before)
            return False
        self.last_ckpt = path
        if is_main_process():
            self._point_to(runner, path)
        return True

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        keep = list(getattr(self, "keep_ckpt_ids", ()))
        wanted = keep if keep[-1:] == [step] else [*keep, step]
        limited = self.max_keep_ckpts > 0
        if limited:
            # The one too many is still named here: a run that is killed before
            # it goes resumes from this file, and MMEngine removes it then.
            runner.message_hub.update_info("keep_ckpt_ids", wanted)
            if len(keep) > 1 and len(wanted) > self.max_keep_ckpts and not self._has_room():
                self._remove(keep[0])
        name = self.filename_tmpl.format(step)
        if not self.write_checkpoint(runner, name, meta, self.by_epoch):
            wanted = keep
        if limited:
            while len(wanted) > self.max_keep_ckpts:
                self._remove(wanted[0])
                wanted = wanted[1:]
            self.keep_ckpt_ids = deque(wanted, self.max_keep_ckpts)
            runner.message_hub.update_info("keep_ckpt_ids", wanted)

    @contextmanager
    def _survived(
        self, runner: Runner, what: str | None = None, before: str | None = None
    ) -> Iterator[None]:
        """Turn a failed write into one line, and leave the block where it failed."""
        try:
            yield
        except OSError as error:
            kept = self.last_ckpt if what is None else before
            stays = f"'{kept}' stays" if kept else "none was saved before"
            line = f"{what or self._failure}: {error.strerror or error} ({stays})"
            if self.on_error == "stop":
                raise UserError(
                    f"{line}; the training stops, as on_error='stop' asks: make room and go on "
                    "with --resume"
                ) from error
            runner.logger.error(f"{line}; TRAINING GOES ON to the next save: make room")

    def _has_room(self) -> bool:
        """Return whether a file of the last checkpoint's size fits on the disk."""
        try:
            return shutil.disk_usage(self.out_dir).free > Path(str(self.last_ckpt)).stat().st_size
        except OSError:  # nothing to measure: writing will tell
            return True

    def _point_to(self, runner: Runner, path: str) -> None:
        try:
            self.file_backend.put_text(path, Path(runner.work_dir) / _POINTER)
        except OSError as error:
            # --resume looks at the checkpoints themselves
            runner.logger.warning(f"{_POINTER} could not be written: {error.strerror or error}")

    def _remove(self, step: int) -> None:
        if not is_main_process():
            return
        path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)
