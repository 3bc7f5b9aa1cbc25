"""What a linear evaluation leaves behind: results.json and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.evaluation.linear_metric import PAPER, RELEASED, LinearMetric
from msn_mm.evaluation.rows import Row, results_of_rows
from msn_mm.utils.results import Table, format_table, write_results

TOPS = ("top1", "top5", "held_out_top1")


def measured_heads(runner: Runner) -> dict[str, Any]:
    """Return what the last validation measured; validates where there was none.

    All processes call it.

    Raises:
        ValueError: The runner measures nothing of the kind.
    """
    metrics = [m for m in runner.val_loop.evaluator.metrics if isinstance(m, LinearMetric)]
    if not metrics:
        raise ValueError("val_evaluator has no LinearMetric")
    if not metrics[0].last:
        # The training was over when it was resumed.
        runner.val_loop.run()
    return metrics[0].last


def report_linear(
    runner: Runner, out: Path, row: Row, args: Any, seconds: float
) -> dict[str, Any] | None:
    """Write a row's ``results.json`` and return it; all processes call it.

    Args:
        runner: A runner whose training is over.
        out: The directory to write to.
        row: What was evaluated.
        args: The tool's arguments.
        seconds: Duration of the work.

    Returns:
        What was written, and its ``table``, on the first process; ``None`` on others.
    """
    measured = measured_heads(runner)
    if runner.rank != 0:
        return None
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    cfg = runner.cfg
    lr = float(cfg.optim_wrapper.optimizer.lr)
    rates = {
        name: lr * head.lr_scale
        for name, head in zip(model.head_names, model.heads.heads, strict=True)
    }
    written = write_results(
        out / "results.json",
        tool="linear",
        config=row.config,
        checkpoint=cfg.model.encoder.get("checkpoint"),
        settings={
            "epochs": runner.epoch,
            "iterations": runner.iter,
            "global_batch": cfg.global_batch_size,
            "accumulation": cfg.accumulation,
            "processes": runner.world_size,
            "learning_rates": rates,
            "momentum": cfg.optim_wrapper.optimizer.momentum,
            "train_view": cfg.train_dataloader.dataset.transform,
            "chosen_on": measured["chosen_on"],
            "images": {"training": len(runner.train_dataloader.dataset), **measured["images"]},
            "classes": model.num_classes,
            "holdout": args.holdout,
            "seed": runner.seed,
            "encoder": model.encoder.description(),
            "cfg_options": args.cfg_options,
        },
        metrics=summary(measured),
        seconds=seconds,
    )
    return {**written, "table": heads_table(measured, rates)}


def report_rows(
    rows: Sequence[Row], reports: Sequence[Mapping[str, Any]], out: Path, args: Any, seconds: float
) -> str:
    """Write the ``results.json`` of several rows and return their one table."""
    metrics = {row.name: report["metrics"] for row, report in zip(rows, reports, strict=True)}
    write_results(
        out / "results.json",
        tool="linear",
        settings={
            "rows": {
                row.name: report["settings"] for row, report in zip(rows, reports, strict=True)
            },
            "holdout": args.holdout,
            "cfg_options": args.cfg_options,
        },
        seconds=seconds,
        **results_of_rows(rows, metrics),
    )
    return rows_table(metrics)


def rows_cells(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return rows: top-1 of the paper's head, of the released code's, and of the best."""
    lines = []
    for name, roles in metrics.items():
        cells = [roles.get(role) for role in ("paper", "released", "best")]
        shown = ["-" if cell is None else f"{cell['top1']:.2f}" for cell in cells]
        lines.append([name, *shown, roles["best"]["head"]])
    return Table(["top-1", "paper", "released", "best", "best head"], lines)


def rows_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out :func:`rows_cells` as plain text, and how the best was chosen."""
    chosen = next(iter(metrics.values()))["best"]["chosen_on"]
    return f"{rows_cells(metrics).text()}\nbest: chosen on {chosen}"


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the heads by role (``paper``, ``released``, ``best``), and all of them by name."""
    heads = measured["heads"]
    found: dict[str, Any] = {}
    for head, values in heads.items():
        for role, mark in (("paper", PAPER), ("released", RELEASED)):
            if head.endswith(mark):
                found[role] = {"head": head, **values}
    best = measured["best"]
    found["best"] = {"head": best, "chosen_on": measured["chosen_on"], **heads[best]}
    return {**found, "heads": heads}


def heads_table(measured: dict[str, Any], rates: dict[str, float]) -> str:
    """Lay out all heads, the best of each first, and how the best was chosen."""
    heads = measured["heads"]
    tops = [top for top in TOPS if top in next(iter(heads.values()))]
    key = tops[-1] if "held_out_top1" in tops else "top1"
    ranked = sorted(heads, key=lambda head: -heads[head][key])
    rows = [
        [
            head + (" <- best" if head == measured["best"] else ""),
            f"{rates[head]:.3g}",
            *(f"{heads[head][top]:.2f}" for top in tops),
        ]
        for head in ranked
    ]
    header = ["head", "lr", *(top.replace("_", "-") for top in tops)]
    note = f"best: chosen on {measured['chosen_on']}"
    if "held_out_top1" not in tops:
        note += ", so its accuracy there is flattered; --holdout 0.1 chooses on training images"
    return f"{format_table(header, rows)}\n{note}"
