"""What a sweep leaves behind and says at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.sweeps.measuring import spread_over_seeds
from msn_mm.sweeps.rounds import Sweeping
from msn_mm.sweeps.tables import column_heading, columns_of, not_better, sweep_table
from msn_mm.utils.results import write_results
from msn_mm.visualization.sweep_chart import plot_sweep


def report_sweep(
    sweeping: Sweeping,
    budgets: Mapping[str, Mapping[str, Any]],
    config: str,
    options: Mapping[str, Any],
    seconds: float,
) -> str:
    """Write ``results.json`` and ``sweep.png`` and word the table.

    Args:
        sweeping: A sweep that has been run.
        budgets: By label what each training takes.
        config: The sweep file as the user named it.
        options: The ``--cfg-options`` that were given.
        seconds: Duration of this call.
    """
    sweep = sweeping.sweep
    rows = {**sweeping.measuring.baselines(sweep), **_runs(sweeping)}
    for row in rows.values():
        values = row.pop("values")
        row["columns"] = spread_over_seeds(values) if values else {}
    columns = columns_of(rows)
    picture = sweeping.out / "sweep.png"
    if columns:
        plot_sweep(rows, {c: column_heading(c) for c in columns}, picture, sweep.title)
    results = sweeping.out / "results.json"
    write_results(
        results,
        tool="sweep",
        config=config,
        checkpoint=None,
        settings={
            "title": sweep.title,
            "seeds": sweep.seeds,
            "runs": {
                run.label: {"config": run.config, "options": run.options, **budgets[run.label]}
                for run in sweep.runs
            },
            **sweeping.measuring.settings(),
            "std": "sample standard deviation over the training seeds (ddof=1); a seed's value "
            "is the mean over the label splits",
            "published": sweep.published,
            "cfg_options": options,
        },
        metrics={"rows": rows, "failures": sweeping.failures, "waiting": sweeping.waiting},
        seconds=seconds,
    )
    lines = [sweep_table(rows, len(sweep.seeds), sweep.published), _conditions(sweeping)]
    lines += not_better(rows)
    lines += [f"failed: {line}" for line in sweeping.failures]
    if sweeping.waiting:
        count = len(sweeping.waiting)
        lines.append(f"Slurm holds {count} of the trainings; the same command gathers them")
    if columns:
        lines.append(f"picture: {picture}")
    return "\n".join([*lines, f"results: {results}"])


def _runs(sweeping: Sweeping) -> dict[str, dict[str, Any]]:
    rows = {}
    for run in sweeping.sweep.runs:
        found = sweeping.found[run.label]
        rows[run.label] = {
            "kind": "run",
            "values": [one["values"] for one in found.values()],
            "trained_seeds": list(found),
            "seconds": [one["seconds"] for one in found.values()],
            "published": run.published,
            "state": "not finished",
        }
    return rows


def _conditions(sweeping: Sweeping) -> str:
    seeds = sweeping.sweep.seeds
    numbers = ", ".join(map(str, seeds))
    over = f"mean ± standard deviation over the training seeds {numbers}"
    return (
        f"{over if len(seeds) > 1 else f'training seed {numbers}'}; each value is a mean over "
        f"{sweeping.sweep.evaluation.protocol.splits} label splits; logistic regression and k-NN "
        "on frozen features"
    )
