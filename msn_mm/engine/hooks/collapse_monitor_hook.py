"""Say in plain words when a run has collapsed, or is about to, and what to change."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from msn_mm.models.methods.base import MSN_KNOBS, CollapseKnobs
from msn_mm.models.ops.statistics import entropy, feature_std, prototypes_in_use, rank_me
from msn_mm.registry import HOOKS

# Of readings that nobody takes.
_MOST_READINGS = 1000


class Reading(NamedTuple):
    """What the monitor saw at one check, averaged over the window where noise matters."""

    feature_std: float
    rank_me: float
    best_rank_me: float
    # Of methods with prototypes only.
    ce_over_ln_k: float | None = None
    mean_entropy: float | None = None
    prototypes_in_use: int | None = None
    num_prototypes: int | None = None


def diagnose(reading: Reading, knobs: CollapseKnobs = MSN_KNOBS) -> dict[str, str]:
    """Return the troubles of a reading: name -> what it means and which knob to turn."""
    troubles = {}
    or_entropy = "" if reading.mean_entropy is None else f" or {knobs.constant}"
    if reading.ce_over_ln_k is not None and reading.ce_over_ln_k > 0.98:
        troubles["uniform predictions"] = (
            f"the cross-entropy sits at ln K ({reading.ce_over_ln_k:.3f} of it): the anchors "
            "predict every prototype alike and nothing is learned. Lower the learning rate, "
            f"lengthen the warm-up, or {knobs.uniform}"
        )
    if reading.mean_entropy is not None and reading.mean_entropy < 0.5:
        troubles["few prototypes"] = (
            f"the mean prediction has {reading.mean_entropy:.2f} of the entropy ln K, with "
            f"{reading.prototypes_in_use} of {reading.num_prototypes} prototypes in use. "
            f"{knobs.few[0].upper()}{knobs.few[1:]}"
        )
    if reading.feature_std < 0.02 or reading.rank_me < 1.5:
        troubles["constant representation"] = (
            f"all images get nearly the same representation (spread {reading.feature_std:.3f}, "
            f"effective rank {reading.rank_me:.1f}). Lower the learning rate{or_entropy}, and "
            "start again: a collapsed encoder rarely recovers"
        )
    elif reading.rank_me < 0.25 * reading.best_rank_me:
        troubles["shrinking representation"] = (
            f"the effective rank fell from {reading.best_rank_me:.1f} to {reading.rank_me:.1f}; "
            "a collapse may be near. Lower the learning rate or raise the EMA momentum"
        )
    return troubles


def _is_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Log how spread out predictions and representations are, and warn of collapse.

    Every ``interval`` iterations it logs ``feature_std`` and ``rank_me`` (effective
    rank, arXiv 2210.02885) of the representations in the model's ``diagnostics``
    (:class:`~msn_mm.models.methods.base.PretrainingMethod`) and, of a method with
    prototypes, ``prototypes_in_use`` (mean prediction of at least a tenth of 1/K),
    over the last ``window`` batches of this process; what is cheap, a model logs
    at every step. A trouble is announced when two checks in a row show it, and
    again whenever it comes back. Appendix D of arXiv 2204.07141 tells why MSN
    should not collapse; in practice a learning rate that is too high still does it.

    Args:
        interval: Iterations between checks.
        window: Batches whose representations and losses enter a check.
        grace: Share of the run during which a uniform prediction, which every
            run starts from, is no trouble.

    Raises:
        ValueError: If interval or window is below 1, or grace outside [0, 1].
        FloatingPointError: During training, when all of a window's losses are not
            finite and no guard skips such steps (:class:`NonFiniteStepsHook`).

    Attributes:
        announced: Names of the troubles that two checks in a row have shown, the last among them.
        told: What the last check found: see :func:`diagnose`.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 50, window: int = 8, grace: float = 0.15) -> None:
        if interval < 1 or window < 1 or not 0.0 <= grace <= 1.0:
            raise ValueError(
                f"interval {interval} and window {window} must be at least 1, "
                f"and grace {grace} in [0, 1]"
            )
        self.interval = interval
        self.window = window
        self.grace = grace
        self.announced: set[str] = set()
        self.told: dict[str, str] = {}
        self._readings: deque[dict[str, float]] = deque(maxlen=_MOST_READINGS)
        self._previous: set[str] = set()
        self._best_rank = 0.0
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=window)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to log and warn as this one would."""
        recent = self._recent if get_rank() == 0 else ()  # the first process alone logs
        return {
            "announced": sorted(self.announced),
            "previous": sorted(self._previous),
            "best_rank": self._best_rank,
            "recent": [{name: value.cpu() for name, value in seen.items()} for seen in recent],
            "told": dict(self.told),
            "readings": list(self._readings) if get_rank() == 0 else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.announced, self._previous = set(state["announced"]), set(state["previous"])
        self._best_rank = state["best_rank"]
        self._recent = deque(map(dict, state["recent"]), maxlen=self.window)
        self.told = dict(state.get("told", {}))
        self._readings = deque(map(dict, state.get("readings", ())), maxlen=_MOST_READINGS)

    def take_readings(self) -> dict[str, float]:
        """Return the means of what was seen since the last call; empty without a check.

        ``loss``, ``rank_me`` and, of a method with prototypes, ``mean_entropy``.
        """
        taken = list(self._readings)
        self._readings.clear()
        names = taken[-1] if taken else ()
        return {name: sum(one[name] for one in taken) / len(taken) for name in names}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        until_check = -(runner.iter + 1) % self.interval
        if until_check >= self.window:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        seen = dict(model.diagnostics)
        if outputs is not None:
            seen["loss"] = outputs["loss"].detach()
        self._recent.append(seen)
        if until_check == 0:
            self._check(runner, getattr(model, "collapse_knobs", MSN_KNOBS))
            self._recent.clear()

    def _check(self, runner: Runner, knobs: CollapseKnobs) -> None:
        sound = [seen for seen in self._recent if all(map(_is_finite, seen.values()))]
        if not sound and getattr(runner.optim_wrapper, "guard", None) is not None:
            return  # the guard skips such steps, and it knows how many are too many
        if not sound:
            loss = float(self._recent[-1]["loss"])
            raise FloatingPointError(
                f"the loss is {loss} at iteration {runner.iter + 1}: the run has diverged. Lower "
                "the learning rate, raise the mask ratio, or clip gradients "
                "(--cfg-options optim_wrapper.clip_grad.max_norm=3.0)"
            )
        stack = {key: [seen[key] for seen in sound] for key in sound[-1]}
        representations = torch.cat(stack["representations"])
        rank = rank_me(representations)
        self._best_rank = max(self._best_rank, rank)
        reading = Reading(
            feature_std=feature_std(representations),
            rank_me=rank,
            best_rank_me=self._best_rank,
            **_of_prototypes(stack),
        )
        for name in ("prototypes_in_use", "feature_std", "rank_me"):
            value = getattr(reading, name)
            if value is not None:
                runner.message_hub.update_scalar(f"train/{name}", value)
        self._keep(reading, stack.get("loss"))
        troubles = diagnose(reading, knobs)
        if runner.iter + 1 < self.grace * runner.max_iters:
            troubles.pop("uniform predictions", None)
        for name in troubles.keys() & self._previous - self.announced:
            runner.logger.warning(f"Collapse monitor, {name}: {troubles[name]}.")
        self.announced = (self.announced | self._previous) & troubles.keys()
        self._previous, self.told = set(troubles), troubles

    def _keep(self, reading: Reading, losses: list[Tensor] | None) -> None:
        kept = {"rank_me": reading.rank_me}
        if losses:
            kept["loss"] = float(torch.stack(losses).mean())
        if reading.mean_entropy is not None:
            kept["mean_entropy"] = reading.mean_entropy
        self._readings.append(kept)


def _of_prototypes(stack: Mapping[str, list[Tensor]]) -> dict[str, Any]:
    """Return what a :class:`Reading` holds of the mean prediction; nothing where there is none."""
    if "mean_prediction" not in stack:
        return {}
    mean_prediction = torch.stack(stack["mean_prediction"]).mean(0)
    ln_k = math.log(mean_prediction.numel())
    return {
        "ce_over_ln_k": float(torch.stack(stack["cross_entropy"]).mean()) / ln_k,
        "mean_entropy": float(entropy(mean_prediction.clamp_min(1e-30).log())) / ln_k,
        "prototypes_in_use": prototypes_in_use(mean_prediction),
        "num_prototypes": mean_prediction.numel(),
    }
