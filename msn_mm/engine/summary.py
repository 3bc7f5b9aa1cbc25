"""What a training leaves behind: results.json and a short table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from msn_mm.engine.hooks.durable_checkpoint_hook import DurableCheckpointHook
from msn_mm.engine.hooks.non_finite_steps_hook import NonFiniteStepsHook
from msn_mm.engine.hooks.unreadable_images_hook import UnreadableImagesHook
from msn_mm.utils.results import write_results

_SMOOTH = 10


def last_scalars(runner: Runner) -> dict[str, float]:
    """Return the last value of every logged scalar that is not a time, by its name.

    Names are those of the log: training scalars without a prefix, validation
    scalars as the metric named them.
    """
    found = {}
    for key, buffer in runner.message_hub.log_scalars.items():
        name = key.removeprefix("train/").removeprefix("val/")
        if name not in ("time", "data_time") and len(buffer.data[0]):
            # A single batch's loss is noise; the log smooths it over as many steps.
            found[name] = float(buffer.mean(_SMOOTH) if "loss" in name else buffer.current())
    return found


def _troubles(runner: Runner) -> dict[str, float]:
    """Return what went wrong and was survived: counts of the whole run, zeros included."""
    counts: dict[str, float] = {}
    for hook in runner.hooks:
        if isinstance(hook, UnreadableImagesHook):
            counts["unreadable_images"] = hook.total
            counts["unreadable_files"] = len(hook.named)
        elif isinstance(hook, NonFiniteStepsHook):
            counts["skipped_steps"] = hook.total
    return counts


def _last_checkpoint(runner: Runner) -> Path | None:
    """Return the checkpoint this run wrote last, or the one it was resumed from at its end."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.last_ckpt is not None:
            return Path(hook.last_ckpt)
        if isinstance(hook, DurableCheckpointHook) and _resumed(runner):
            return Path(str(runner._load_from)) if hook.began_at == runner.iter else None
    return None  # a config may switch checkpoints off


def _resumed(runner: Runner) -> bool:
    return bool(runner._resume and runner._load_from)


def _time(runner: Runner) -> tuple[dict[str, int], dict[str, float]]:
    """Return where a resumed run went on, and how long it trained in all."""
    for hook in runner.hooks:
        if isinstance(hook, DurableCheckpointHook) and _resumed(runner):
            spent = hook.run_seconds
            return {"resumed_at": hook.began_at}, {} if spent is None else {"run_seconds": spent}
    return {}, {}


def report_training(
    runner: Runner,
    config: Path,
    options: Mapping[str, Any],
    seconds: float,
    tool: str = "train",
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Write ``results.json`` of a finished training and return its table.

    Args:
        runner: a runner whose training is over.
        config: the config as the user named it.
        options: the ``--cfg-options`` that were given.
        seconds: duration of this process's training, set-up included. What a
            resumed run took in all is ``run_seconds`` among the metrics.
        tool: the tool that trained.
        settings: what else it was told.

    Returns:
        A table of the last scalars, and where everything lies.
    """
    out = Path(runner.work_dir)
    resumed_at, run_seconds = _time(runner)
    metrics = {**last_scalars(runner), **_troubles(runner), **run_seconds}
    checkpoint = _last_checkpoint(runner)
    shown_out = Path(runner.cfg.work_dir)
    shown = checkpoint
    if checkpoint is not None and checkpoint.parent.resolve() == out.resolve():
        shown = shown_out / checkpoint.name
    results = out / "results.json"
    write_results(
        results,
        tool=tool,
        config=str(config),
        checkpoint=None if shown is None else str(shown),
        settings={
            "cfg_options": dict(options),
            "seed": runner.seed,
            "epochs": runner.epoch,
            "iterations": runner.iter,
            **resumed_at,
            "processes": runner.world_size,
            "global_batch": runner.cfg.get("global_batch_size"),
            **(settings or {}),
        },
        metrics=metrics,
        seconds=seconds,
    )
    width = max([len(name) for name in metrics] + [len("seconds")])
    rows = [f"{name:<{width}}  {value:.5g}" for name, value in metrics.items()]
    rows.append(f"{'seconds':<{width}}  {seconds:.1f}")
    rows.append(f"checkpoint: {shown or 'none'}")
    rows.append(f"results:    {shown_out / results.name}")
    return "\n".join(rows)
