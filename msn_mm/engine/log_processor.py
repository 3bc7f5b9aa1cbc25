"""MMEngine's log with tags of its own for what a validation takes."""

from __future__ import annotations

from typing import Any

from mmengine.runner import LogProcessor

_TIMES = ("time", "data_time")


class SeparateTimesLogProcessor(LogProcessor):
    """MMEngine's, but a validation's ``time`` and ``data_time`` are ``val/time`` and so on.

    MMEngine gives both loops' the same tags, and a training counts iterations where a
    validation counts epochs: TensorBoard drew both axes in one curve.
    """

    def get_log_after_epoch(
        self, runner: Any, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Return tags and the log's line of an epoch as MMEngine does, the line unchanged."""
        tags, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        if mode == "val":
            tags = {f"val/{n}" if n in _TIMES else n: value for n, value in tags.items()}
        return tags, line
