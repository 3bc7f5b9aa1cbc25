"""Parts of a run that this project puts where MMEngine has others, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from msn_mm.engine.hooks.deferred_runtime_info_hook import DeferredRuntimeInfoHook
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.hooks.starting_weights_hook import StartingWeightsHook
from msn_mm.engine.hooks.step_schedule_hook import StepScheduleHook
from msn_mm.engine.hooks.stop_signal_hook import StopSignalHook
from msn_mm.engine.loops.exact_epoch_loop import ExactEpochLoop
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.config_types import builds


def use_amp(cfg: Config) -> None:
    """Train in bfloat16 where that is safe.

    Raises:
        UserError: The config trains nothing, or by a wrapper that cannot.
    """
    wrapper = cfg.get("optim_wrapper")
    if wrapper is None:
        raise UserError("--amp: the config trains nothing (no optim_wrapper)")
    if not builds(wrapper, "GroupOptimWrapper", "AmpGroupOptimWrapper"):
        raise UserError(
            "--amp works with optim_wrapper.type='GroupOptimWrapper', the config has "
            f"'{wrapper.get('type', 'OptimWrapper')}'"
        )
    wrapper["type"] = "AmpGroupOptimWrapper"


def use_safe_checkpoints(cfg: Config) -> None:
    """Put the crash-safe checkpoint hook where MMEngine would put its own."""
    hooks = ConfigDict(cfg.get("default_hooks") or {})
    checkpoint = ConfigDict(hooks.get("checkpoint") or {"interval": 1})
    if "checkpoint" in hooks and hooks["checkpoint"] is None:
        return
    if builds(checkpoint, "CheckpointHook", default="CheckpointHook"):
        checkpoint["type"] = SafeCheckpointHook.__name__
    hooks["checkpoint"] = checkpoint
    cfg.default_hooks = hooks


def use_step_schedules(cfg: Config) -> None:
    """Move schedules by optimizer steps where MMEngine would by forward passes."""
    _use_instead(cfg, "param_scheduler", "ParamSchedulerHook", StepScheduleHook)


def use_deferred_scalars(cfg: Config) -> None:
    """Log losses without waiting for the device where MMEngine would read them at every step."""
    _use_instead(cfg, "runtime_info", "RuntimeInfoHook", DeferredRuntimeInfoHook)


def _use_instead(cfg: Config, place: str, theirs: str, ours: type) -> None:
    """Put a hook of ours in MMEngine's place, unless the config has another there, or none."""
    hooks = ConfigDict(cfg.get("default_hooks") or {})
    if place in hooks and hooks[place] is None:
        return
    hook = ConfigDict(hooks.get(place) or {})
    if builds(hook, theirs, default=theirs):
        hook["type"] = ours.__name__
    hooks[place] = hook
    cfg.default_hooks = hooks


def use_compile(cfg: Config) -> None:
    """Train with compiled transformer blocks.

    Raises:
        UserError: The config trains no ``MaskedViT``.
    """
    backbone = (cfg.get("model") or {}).get("backbone") or {}
    kind = backbone.get("type") if cfg.get("optim_wrapper") is not None else None
    if kind != "MaskedViT":
        raise UserError(
            "--compile compiles the blocks of a MaskedViT that is trained; this config has "
            f"{'none' if kind is None else repr(kind)}: leave --compile out"
        )
    if not backbone.get("compile"):  # which may name another backend
        backbone["compile"] = True


def use_stop_signals(cfg: Config) -> None:
    """Save and stop when a scheduler asks, unless the config says how or switches it off."""
    hooks = ConfigDict(cfg.get("default_hooks") or {})
    hooks.setdefault("stop_signal", ConfigDict(type=StopSignalHook.__name__))
    cfg.default_hooks = hooks


def use_exact_loop(cfg: Config) -> None:
    """Train epochs by the loop that resumes anywhere, unless the config names another."""
    loop = cfg.get("train_cfg")
    if loop is not None and "type" not in loop and loop.get("by_epoch", True):
        loop.pop("by_epoch", None)
        loop["type"] = ExactEpochLoop.__name__


def use_starting_weights(cfg: Config, reading: Mapping[str, Any]) -> None:
    """Let a checkpoint of any format be what a training starts from.

    Args:
        cfg: changed in place.
        reading: settings of the hook from the command line, which count more
            than those that the config gives it.
    """
    source = cfg.get("load_from")
    if source is None or cfg.get("resume") or cfg.get("optim_wrapper") is None:
        return
    check_checkpoint(source)  # a wrong path is told before data and model are built
    name = StartingWeightsHook.__name__
    hooks = list(cfg.get("custom_hooks") or [])
    own = [hook for hook in hooks if builds(hook, name)]
    if not own:
        own = [ConfigDict(type=name)]
        hooks += own
    own[0].update(reading)
    cfg.custom_hooks = hooks
