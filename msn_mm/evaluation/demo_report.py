"""What the demo leaves behind and says at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import Runner, find_latest_checkpoint

from msn_mm.evaluation.baselines import accuracy_table, verdict
from msn_mm.utils.results import write_results
from msn_mm.visualization.curves import plot_training_curves


def announce(runner: Runner, baselines: Mapping[str, Mapping[str, Any]]) -> str:
    """Word what the demo is about to do: the numbers to beat, and what to watch in the log.

    Args:
        runner: The runner, before its training.
        baselines: ``raw_pixels`` and ``untrained`` from
            :func:`~msn_mm.evaluation.baselines.compare_with_baselines`.
    """
    table = accuracy_table(
        {"raw pixels": baselines["raw_pixels"], "untrained encoder": baselines["untrained"]}
    )
    lines = [
        "",
        "To beat:",
        table,
        "",
        f"Now pre-training on {len(runner.train_dataloader.dataset)} images without their labels, "
        f"{runner.max_epochs} epochs.",
    ]
    prototypes = _num_prototypes(runner)
    if prototypes is not None:
        lines.append(
            f"Watch loss_msn: it starts near ln {prototypes} = {math.log(prototypes):.2f}, where "
            "nothing is learned, and should fall."
        )
    return "\n".join([*lines, ""])


def report(
    runner: Runner,
    out: Path,
    config: str,
    measured: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    seconds: float,
) -> str:
    """Write ``results.json`` and ``curves.png`` of a finished demo and word its report.

    Args:
        runner: The runner, its training over.
        out: Directory of the run, as the user named it.
        config: The config, as the user named it.
        measured: From :func:`~msn_mm.evaluation.baselines.compare_with_baselines`.
        settings: What the numbers depend on.
        seconds: Duration of the whole demo.

    Returns:
        The table, whether training paid, where everything is and what to try next.
    """
    checkpoint = _latest_checkpoint(out)
    metrics = {
        "raw_pixels": measured["raw_pixels"],
        "untrained": measured["untrained"],
        "msn": measured["trained"],
    }
    write_results(
        out / "results.json", "demo", config, checkpoint, settings, metrics, seconds=seconds
    )
    plot_training_curves(
        Path(runner.log_dir) / "vis_data" / "scalars.json",
        out / "curves.png",
        num_prototypes=_num_prototypes(runner),
        baselines=_means(measured["raw_pixels"]),
        steps_per_epoch=len(runner.train_dataloader),
    )
    table = accuracy_table(
        {
            "raw pixels": measured["raw_pixels"],
            "untrained encoder": measured["untrained"],
            "MSN": measured["trained"],
        }
    )
    lines = [
        "",
        table,
        f"mean ± standard deviation over {settings['splits']} choices of the labelled images; "
        "logistic regression on frozen features",
        "",
        verdict(measured["trained"], measured["raw_pixels"], ("MSN", "raw pixels")),
        verdict(measured["trained"], measured["untrained"], ("MSN", "the untrained encoder")),
        f"Training took {settings['train_seconds']:.0f} s of {seconds:.0f} s in all.",
        "",
        "Written:",
        f"  numbers      {out / 'results.json'}",
        f"  curves       {out / 'curves.png'}",
    ]
    if checkpoint is not None:
        lines.append(f"  checkpoint   {checkpoint}")
    if any(out.rglob("events.out.tfevents.*")):
        lines.append(f"  TensorBoard  {out} (look: tensorboard --logdir {out})")
    lines += [
        "",
        "To try next:",
        "  your own images, no labels needed:",
        "    python tools/train.py configs/msn_folder.py --cfg-options data_root=PATH",
    ]
    if checkpoint is not None:
        lines += [
            "  measure the checkpoint again:",
            f"    python tools/test.py {config} {checkpoint}",
        ]
    return "\n".join(lines)


def _num_prototypes(runner: Runner) -> int | None:
    return (runner.cfg.model.get("head") or {}).get("num_prototypes")


def _latest_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint in ``out``, its path beginning as the user named the directory."""
    found = find_latest_checkpoint(str(out))
    return None if found is None else out / Path(found).name


def _means(measured: Mapping[str, Any]) -> dict[str, float]:
    return {
        column: value["top1"] if column == "knn" else value["top1_mean"]
        for column, value in measured.items()
    }
