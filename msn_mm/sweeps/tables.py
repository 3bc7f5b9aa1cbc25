"""A sweep's numbers as a table, and what they say about the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.evaluation.tables import heading, spread
from msn_mm.sweeps.measuring import KNN
from msn_mm.utils.results import format_table

Row = Mapping[str, Any]


def sweep_table(rows: Mapping[str, Row], seeds: int, published: str | None = None) -> str:
    """Lay out a sweep, one row a run or baseline.

    Args:
        rows: By label ``columns`` (:func:`~msn_mm.sweeps.measuring.spread_over_seeds`),
            ``seconds`` (one a seed), ``state`` where there are no columns, and
            ``published``.
        seeds: How many seeds were asked for.
        published: Heading of the published numbers, if they are to be shown.

    Returns:
        Top-1 in percent, mean ± sample standard deviation over the seeds, and
        the minutes of a training.
    """
    columns = columns_of(rows)
    header = ["top-1 accuracy (%)", *map(column_heading, columns), "seeds", "minutes"]
    lines = []
    for label, row in rows.items():
        found = row.get("columns") or {}
        if found:
            cells = [spread(found[column], "top1") for column in columns]
            count = len(found[columns[0]]["top1"])
            is_short = count < seeds and row["kind"] != "raw_pixels"
            said = f"{count} of {seeds}" if is_short else str(count)
        else:
            cells, said = [row["state"], *[""] * (len(columns) - 1)] if columns else [], "0"
        seconds = row.get("seconds") or []
        minutes = f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else ""
        lines.append([label, *cells, "" if row["kind"] == "raw_pixels" else said, minutes])
        if published is not None:
            number = row.get("published")
            lines[-1].append("" if number is None else f"{number:g}")
    if published is not None:
        header.append(published)
    return format_table(header, lines)


def columns_of(rows: Mapping[str, Row]) -> list[str]:
    """Return the columns of the rows that have any."""
    return next((list(row["columns"]) for row in rows.values() if row.get("columns")), [])


def column_heading(column: str) -> str:
    """Return what a table calls a column."""
    return f"{column.removeprefix(KNN)}-NN" if column.startswith(KNN) else heading(column)


def not_better(rows: Mapping[str, Row]) -> list[str]:
    """Return a line for each run that does not beat its own untrained encoder in a column.

    Args:
        rows: As in :func:`sweep_table`; rows of untrained encoders name their ``runs``.
    """
    lines = []
    for name, start in rows.items():
        for label in start.get("runs") or ():
            found = (rows.get(label) or {}).get("columns") or {}
            worse = [
                f"{column_heading(column)} ({values['top1_mean'] - base['top1_mean']:+.1f})"
                for column, base in start["columns"].items()
                if (values := found.get(column)) and values["top1_mean"] <= base["top1_mean"]
            ]
            if worse:
                lines.append(f"warning: {label} does not beat '{name}' at {', '.join(worse)}")
    return lines
