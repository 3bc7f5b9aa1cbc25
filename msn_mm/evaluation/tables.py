"""How accuracies read in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msn_mm.evaluation.logistic_regression import RELEASED_TOL
from msn_mm.utils.results import Table, format_table

Measured = Mapping[str, Any]


def heading(column: str) -> str:
    """Return what a table calls a column of :func:`~msn_mm.evaluation.splits.draw_splits`."""
    if column.isdigit():
        return f"{column} label{'s' if column != '1' else ''} a class"
    if column.endswith("%"):
        return f"{column[:-1]} % of the labels"
    return column


def accuracy_heading(top: str) -> str:
    """Return the heading above the names of the rows of accuracies, ``top1`` or ``top5``."""
    return f"{top[:3]}-{top[3:]} accuracy (%)"


def spread(values: Mapping[str, Any], name: str) -> str:
    """Return ``mean ± std`` of a metric over the splits; the mean alone of one split."""
    if f"{name}_mean" not in values:
        return ""
    mean = f"{values[f'{name}_mean']:.1f}"
    return mean if len(values[name]) < 2 else f"{mean} ± {values[f'{name}_std']:.1f}"


def low_shot_tables(rows: Mapping[str, Measured]) -> list[Table]:
    """Return low-shot accuracies, one row an encoder: top-1, and top-5 of more than five classes.

    Below a row that was also learnt from masked images stand that row and its
    difference from the whole images (the paper's table 15).

    Args:
        rows: By the encoder's name what
            :func:`~msn_mm.evaluation.low_shot_protocol.measure` returns.
    """
    columns = list(next(iter(rows.values())))
    tops = [
        top for top in ("top1", "top5") if any(f"{top}_mean" in v for v in _first(rows).values())
    ]
    tables = []
    for top in tops:
        lines = []
        for name, measured in rows.items():
            lines.append([name, *(spread(measured[c], top) for c in columns)])
            for ratio in measured[columns[0]].get("masked", {}):
                masked = {c: measured[c]["masked"][ratio] for c in columns}
                lines.append(
                    [
                        f"  learnt from {float(ratio):.0%} masked",
                        *(spread(masked[c], top) for c in columns),
                    ]
                )
                lines.append(
                    ["  difference", *(f"{masked[c][f'{top}_delta_mean']:+.1f}" for c in columns)]
                )
        tables.append(Table([accuracy_heading(top), *(heading(c) for c in columns)], lines))
    return tables


def low_shot_table(rows: Mapping[str, Measured]) -> str:
    """Lay out :func:`low_shot_tables`, and the seconds that the fits took, as plain text."""
    columns = list(next(iter(rows.values())))
    seconds = [
        [name, *(f"{sum(measured[c]['seconds']):.2f}" for c in columns)]
        for name, measured in rows.items()
    ]
    times = Table(["fits, seconds in all", *(heading(c) for c in columns)], seconds)
    return "\n\n".join(table.text() for table in [*low_shot_tables(rows), times])


def unconverged(rows: Mapping[str, Measured]) -> list[str]:
    """Return a warning for each column whose fits stopped before the solver's tolerance.

    Args:
        rows: As in :func:`low_shot_table`.
    """
    lines = []
    for name, measured in rows.items():
        for column, values in measured.items():
            for ratio, fits in (("", values), *values.get("masked", {}).items()):
                short = [gap for gap in fits["gap"] if not gap <= RELEASED_TOL]
                if short:
                    masked = f", learnt from {float(ratio):.0%} masked" if ratio else ""
                    lines.append(
                        f"warning: {name}, {heading(column)}{masked}: {len(short)} of "
                        f"{len(fits['gap'])} fits stopped short of the optimum (relative gap up "
                        f"to {max(short):.2g}); raise --lambd, or take --solver qning-ista"
                    )
    return lines


def transfer_table(rows: Mapping[str, Mapping[str, Measured]]) -> Table:
    """Return linear transfer, one row an encoder, columns by data set and labels.

    Args:
        rows: By the encoder's name and the data set's what
            :func:`~msn_mm.evaluation.low_shot_protocol.measure` returns.
    """
    columns = [(data, labels) for data, measured in _first(rows).items() for labels in measured]
    return Table(
        [accuracy_heading("top1"), *(f"{data}, {labels}" for data, labels in columns)],
        [
            [name, *(spread(measured[data][labels], "top1") for data, labels in columns)]
            for name, measured in rows.items()
        ],
    )


def knn_tables(rows: Mapping[str, Measured]) -> list[Table]:
    """Return k-NN accuracies, one row an encoder: top-1 and top-5 for each k."""
    ks = list(_first(rows))
    return [
        Table(
            [accuracy_heading(top), *(f"k = {k}" for k in ks)],
            [[name, *(f"{measured[k][top]:.1f}" for k in ks)] for name, measured in rows.items()],
        )
        for top in ("top1", "top5")
    ]


def masking_table(rows: Mapping[str, Measured]) -> Table:
    """Return the cosine of masked and whole features, one row an encoder, columns by ratio."""
    ratios = list(_first(rows)["by_ratio"])
    return Table(
        [
            "cosine with the whole image",
            *(f"{float(ratio):.0%} masked" for ratio in ratios),
            "other images, whole",
        ],
        [
            [
                name,
                *(f"{measured['by_ratio'][ratio]['mean']:.3f}" for ratio in ratios),
                f"{measured['different_images']:.3f}",
            ]
            for name, measured in rows.items()
        ],
    )


def splits_table(splits: Mapping[str, Sequence[Any]], files: Sequence[str | Path]) -> str:
    """Lay out which label splits are used, and the files that name their images.

    Args:
        splits: The label splits.
        files: One a split, as :func:`~msn_mm.evaluation.split_files.save_splits` returns.
    """
    remaining = iter(files)
    lines = []
    for column, subsets in splits.items():
        own = [str(next(remaining)) for _ in subsets]
        sizes = sorted({len(indices) for indices in subsets})
        images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        shown = own[0] if len(own) == 1 else f"{own[0]} to {Path(own[-1]).name}"
        lines.append([heading(column), str(len(subsets)), images, shown])
    return format_table(["labelled images", "splits", "images a split", "files"], lines)


def _first(rows: Mapping[str, Any]) -> Any:
    return next(iter(rows.values()))
