"""The best checkpoint by a validated score: the new one is whole before the old one goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from msn_mm.engine.hooks.durable_checkpoint_hook import DurableCheckpointHook
from msn_mm.errors import UserError


class BestCheckpointHook(DurableCheckpointHook):
    """Keep the best checkpoint through saves that fail.

    MMEngine removes the previous best and notes the new score before it writes.
    Here the new file is on the disk first; when it cannot be written, the
    previous file, its score and its name stay, and the next better score is
    tried again. All processes agree on which it was.

    Args:
        **kwargs: arguments of :class:`DurableCheckpointHook` and of MMEngine's
            ``CheckpointHook``.
    """

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if not self.save_best:
            return
        if "auto" in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        now = runner.epoch if self.by_epoch else runner.iter
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        pairs = list(zip(self.key_indicators, self.rules, strict=True))
        saved = [self._save_if_better(runner, *pair, metrics, now, meta) for pair in pairs]
        # What was saved before the validation does not know of the new best.
        if any(saved) and self.last_ckpt is not None:
            self._save_checkpoint_with_step(runner, now, meta)

    def _save_if_better(
        self,
        runner: Runner,
        key: str,
        rule: str,
        metrics: dict[str, Any],
        now: int,
        meta: dict[str, int],
    ) -> bool:
        hub, score = runner.message_hub, metrics[key]
        tail = "" if len(self.key_indicators) == 1 else f"_{key}"
        before = {name: hub.get_info(name) for name in (f"best_score{tail}", f"best_ckpt{tail}")}
        best, old = before.values()
        best = self.init_value_map[rule] if best is None else best
        if score is None or not self.is_better_than[key](score, best):
            return False
        name = f"best_{key}_{self.filename_tmpl.format(now)}".replace("/", "_")
        path = self.file_backend.join_path(self.out_dir, name)
        for info, value in zip(before, (score, path), strict=True):
            hub.update_info(info, value)
        if not self._write_best(runner, name, meta, old):
            for info, value in before.items():
                if value is None:
                    hub.pop_info(info)
                else:
                    hub.update_info(info, value)
            return False
        if tail:
            self.best_ckpt_path_dict[key] = path
        else:
            self.best_ckpt_path = path
        runner.logger.info(
            f"The best checkpoint with {score:0.4f} {key} at {now} "
            f"{'epoch' if self.by_epoch else 'iter'} is saved to {name}."
        )
        if old and old != path and is_main_process() and Path(old).is_file():
            Path(old).unlink()
            runner.logger.info(f"The previous best checkpoint {old} is removed")
        return True

    def _write_best(self, runner: Runner, name: str, meta: dict[str, int], old: str | None) -> bool:
        """Write one file; return, to all processes, whether it is on the disk."""
        written, refusal = [False], None
        try:
            with self._survived(
                runner, f"best checkpoint {name} could not be written to {self.out_dir}", old
            ):
                runner.save_checkpoint(
                    self.out_dir,
                    filename=name,
                    file_client_args=self.file_client_args,
                    save_optimizer=False,
                    save_param_scheduler=False,
                    meta=meta,
                    by_epoch=False,
                    backend_args=self.backend_args,
                )
                written = [True]
        except UserError as error:
            refusal = error
        broadcast_object_list(written)
        if refusal is not None:
            raise refusal
        return written[0]
