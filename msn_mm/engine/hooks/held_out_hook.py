"""A resumed training goes on with the images that it learnt from, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.datasets.held_out import HeldOut
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class HeldOutHook(Hook):
    """Keep which images were held out of training, and refuse to go on with another choice.

    Images to choose a head by would else be among those that it learnt from.

    Raises:
        UserError: When a training is resumed that held out others.
    """

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Look at the training images."""
        dataset = runner.train_dataloader.dataset
        while dataset is not None and not isinstance(dataset, HeldOut):
            dataset = getattr(dataset, "dataset", None)
        self._held = {"fraction": 0.0, "images": ""}
        if dataset is not None and dataset.fraction:
            digest = hashlib.sha256(dataset.indices.astype("<i8").tobytes()).hexdigest()
            self._held = {"fraction": float(dataset.fraction), "images": digest}

    def state_dict(self) -> dict[str, Any]:
        """Return the share that is held out, and a digest of the images that are left."""
        return dict(self._held)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with a checkpoint."""
        if dict(state) == self._held:
            return
        before, now = state.get("fraction", 0.0), self._held["fraction"]
        what = f"a share of {before:g} and this run {now:g}" if before != now else "other images"
        raise UserError(
            f"the checkpoint's training held out {what}, so its heads know images that they would "
            f"be chosen or measured by: resume with --holdout {before:g} and the same data, or "
            "leave --resume out"
        )
