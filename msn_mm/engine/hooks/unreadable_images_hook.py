"""Damaged images: named, counted, and too many of them refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.errors import UserError
from msn_mm.registry import HOOKS

# How many standard deviations above the allowed share a running count must be
# before a run is stopped inside an epoch.
_SURE = 3.0


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Watch how many images of the data set cannot be read.

    Each damaged file is named once in the log, with the reason; how many were
    met so far is the scalar ``unreadable_images``, once there is one. The run fails when more than
    ``max_bad_fraction`` of the images that an epoch tried to read are damaged. Within
    an epoch, where the count is a sample, it fails as soon as the share is
    beyond doubt (three standard deviations) above the limit.

    Args:
        max_bad_fraction: Largest share of damaged images, in [0, 1].
        min_seen: Images before the first judgement within an epoch.
        interval: Iterations between exchanges among processes; one process
            alone looks at every batch.

    Raises:
        ValueError: If the share is no share.
        UserError: While training, if too many images are damaged.
    """

    priority = "NORMAL"

    def __init__(
        self, max_bad_fraction: float = 0.05, min_seen: int = 200, interval: int = 50
    ) -> None:
        if not 0.0 <= max_bad_fraction <= 1.0:
            raise ValueError(f"max_bad_fraction must lie in [0, 1], got {max_bad_fraction}")
        if interval < 1:
            raise ValueError(f"interval must be 1 or more, got {interval}")
        self.max_bad_fraction = max_bad_fraction
        self.min_seen = min_seen
        self.interval = interval
        self.named: dict[str, str] = {}
        self.total = 0
        self.bad = 0
        self.seen = 0
        self._new_seen = 0
        self._new_bad: list[tuple[str, str]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the count of an epoch."""
        self.bad = self.seen = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the files that were named, for a checkpoint."""
        return {
            "named": dict(self.named),
            "total": self.total,
            "bad": self.bad,
            "seen": self.seen,
            # this process's alone, not yet told to the others
            "new_seen": self._new_seen,
            "new_bad": [list(bad) for bad in self._new_bad],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: no file is named again, an epoch's counts go on."""
        self.named = dict(state["named"])
        self.total, self.bad, self.seen = (int(state[k]) for k in ("total", "bad", "seen"))
        self._new_seen = int(state["new_seen"])
        self._new_bad = [(path, reason) for path, reason in state["new_bad"]]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Count a batch; at intervals exchange counts, report and judge."""
        if data_batch is not None:
            samples = data_batch["data_samples"]
            # A replaced image was a try of its own.
            self._new_seen += len(samples["index"]) + len(samples["unreadable"])
            self._new_bad += samples["unreadable"]
        if get_world_size() == 1 or self.every_n_inner_iters(batch_idx, self.interval):
            self._exchange(runner)
            doubt = _SURE * math.sqrt(
                self.seen * self.max_bad_fraction * (1 - self.max_bad_fraction)
            )
            if self.seen >= self.min_seen and self.bad > self.max_bad_fraction * self.seen + doubt:
                self._fail()

    def after_train_epoch(self, runner: Runner) -> None:
        """Judge the whole epoch."""
        self._exchange(runner)
        if self.bad > self.max_bad_fraction * self.seen:
            self._fail()

    def _exchange(self, runner: Runner) -> None:
        parts = [(self._new_seen, self._new_bad)]
        if get_world_size() > 1:
            parts = all_gather_object(parts[0])
        self._new_seen, self._new_bad = 0, []
        new = sum(len(bad) for _, bad in parts)
        self.bad += new
        self.total += new
        for seen, bad in parts:
            self.seen += seen
            for path, reason in bad:
                if path not in self.named:
                    self.named[path] = reason
                    runner.logger.warning(
                        f"unreadable image {path}: {reason}; another takes its place"
                    )
        # Only where there is something to tell, and not each iteration:
        # MMEngine's history costs more the longer it grows.
        if new:
            runner.message_hub.update_scalar("train/unreadable_images", self.total)

    def _fail(self) -> None:
        path, reason = next(iter(self.named.items()))
        raise UserError(
            f"{self.bad} of {self.seen} images ({100 * self.bad / self.seen:.1f} %) cannot be "
            f"read, more than the {100 * self.max_bad_fraction:g} % allowed; the first is {path} "
            f"({reason}); mend or remove them, or raise max_bad_fraction of UnreadableImagesHook"
        )
