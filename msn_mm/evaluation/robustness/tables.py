"""How robustness reads in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.evaluation.robustness.protocol import by_severity
from msn_mm.utils.results import Table

TITLES = {
    "imagenet_a": "ImageNet-A",
    "imagenet_r": "ImageNet-R",
    "imagenet_sketch": "ImageNet-Sketch",
    "imagenet_c": "ImageNet-C",
    "corrupted": "corrupted",
}
Rows = Mapping[str, Mapping[str, Any]]


def robustness_tables(rows: Rows) -> str:
    """Lay out all that was measured.

    Args:
        rows: As in :func:`summary_table`.
    """
    kinds = [k for k in ("imagenet_c", "corrupted") if k in next(iter(rows.values()))]
    tables = [summary_table(rows), *(corruption_table(rows, kind) for kind in kinds)]
    return "\n\n".join(table.text() for table in tables)


def notes(rows: Rows, found: int = 0) -> list[str]:
    """Return what a reader of the tables should know beside the numbers.

    Args:
        rows: As in :func:`summary_table`.
        found: How many passes an earlier run had finished.
    """
    lines = []
    if found:
        lines.append(f"{found} passes had been finished before and were not run again")
    first = next(iter(rows.values()))
    c = first.get("imagenet_c")
    if c is not None and not c["is_whole"]:
        few, many = c["fewest_images"], c["images"]
        images = f"{many:,}" if few == many else f"{few:,} to {many:,}"
        lines.append(
            f"note: AlexNet's errors are of 50,000 images of 1,000 classes a pass; with {images} "
            f"images of {c['classes']:,} classes mCE is comparable to no published one"
        )
    lines += _faultless(first.get("corrupted", {}))
    by_order = [
        name for name, row in rows.items() if row.get("corrupted", {}).get("classes_by") == "order"
    ]
    if by_order:
        lines.append(
            f"note: {', '.join(by_order)}: the data's names of classes are none of the "
            "checkpoint's, or it tells none; their first class was taken for the first output, "
            "and so on"
        )
    if "corrupted" in first:
        lines.append(
            "note: corrupted on the fly, so comparable among rows of this table and not to "
            "ImageNet-C's files, which were saved as JPEG"
        )
    return lines


def summary_table(rows: Rows) -> Table:
    """Return table 14, one row a classifier; what was not measured is left out.

    Args:
        rows: By the classifier's name, by the data's what
            :class:`~.protocol.Robustness` measured.
    """
    columns: list[tuple[str, str, str]] = []
    for kind in ("imagenet_a", "imagenet_r", "imagenet_sketch"):
        columns.append((kind, "top1", f"{TITLES[kind]} top-1 (%)"))
    columns.append(("imagenet_c", "mce", "ImageNet-C mCE"))
    columns.append(("corrupted", "clean_error", "clean error (%)"))
    columns.append(("corrupted", "mean_error", "corrupted, mean error (%)"))
    columns.append(("corrupted", "mce_of_baseline", f"corrupted, mCE against {_baseline(rows)}"))
    shown = [c for c in columns if any(c[1] in row.get(c[0], {}) for row in rows.values())]
    return Table(
        ["classifier", *(title for *_, title in shown)],
        [
            [name, *(_number(row.get(kind, {}).get(value)) for kind, value, _ in shown)]
            for name, row in rows.items()
        ],
    )


def corruption_table(rows: Rows, kind: str) -> Table:
    """Return one line a corruption.

    One classifier has a column a severity, several have a column each.

    Args:
        rows: As in :func:`summary_table`.
        kind: ``imagenet_c`` or ``corrupted``.
    """
    measured = {name: row[kind] for name, row in rows.items()}
    normalised = "ce" if kind == "imagenet_c" else "ce_of_baseline"
    means = "mce" if kind == "imagenet_c" else "mce_of_baseline"
    label = "CE" if kind == "imagenet_c" else f"CE against {_baseline(rows)}"
    first = next(iter(measured.values()))
    title = f"{TITLES[kind]}, error (%)"
    if len(measured) == 1:
        header = [title, *(f"severity {s}" for s in first["severities"]), "mean"]
        lines = [
            [name, *map(_number, one["errors"]), _number(one["error"])]
            for name, one in first["corruptions"].items()
        ]
        lines.append(["mean", *map(_number, by_severity(first)), _number(first["mean_error"])])
        if means in first:
            header.append(label)
            values = [one[normalised] for one in first["corruptions"].values()]
            for line, value in zip(lines, [*values, first[means]], strict=True):
                line.append(_number(value))
        return Table(header, lines)
    header = [title]
    columns = []
    for name, one in measured.items():
        header.append(name)
        columns.append([*(c["error"] for c in one["corruptions"].values()), one["mean_error"]])
        if means in one:
            header.append(label)
            columns.append([*(c[normalised] for c in one["corruptions"].values()), one[means]])
    names = [*first["corruptions"], "mean"]
    return Table(
        header,
        [[name, *(_number(column[i]) for column in columns)] for i, name in enumerate(names)],
    )


def _baseline(rows: Rows) -> str:
    found = (row.get("corrupted", {}).get("baseline") for row in rows.values())
    return next((name for name in found if name is not None), "")


def _faultless(corrupted: Mapping[str, Any]) -> list[str]:
    """A note of the corruptions on which the baseline makes no error to divide by."""
    if "baseline" not in corrupted:
        return []
    names = [n for n, one in corrupted["corruptions"].items() if one["ce_of_baseline"] is None]
    if not names:
        return []
    return [
        f"note: the baseline {corrupted['baseline']} makes no error on {', '.join(names)}, so "
        "there is no CE against it there and no mCE; give more images, higher --severities or "
        "another --baseline, or leave these out of --corruptions"
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
