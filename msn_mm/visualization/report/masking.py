"""Section: how far representations move when patches are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.errors import UserError
from msn_mm.evaluation.extraction import Mask
from msn_mm.evaluation.masking import masking_invariance
from msn_mm.evaluation.published_rows import data, published_rows, source
from msn_mm.evaluation.tables import masking_table
from msn_mm.utils.results import Table
from msn_mm.visualization.page_parts import (
    Download,
    Section,
    details,
    html_table,
    joined,
    paragraph,
)
from msn_mm.visualization.report.chart import Chart, Level, Series, grid
from msn_mm.visualization.report.run import Run

_RATIOS = (0.15, 0.3, 0.5, 0.7, 0.9)


def section(run: Run) -> Section:
    """Draw the curve that tools/masking.py measured, or measure one with one mask an image.

    Raises:
        UserError: There is none, and the encoder cannot drop patches.
    """
    rows: dict[str, Any] = {}
    for one in run.work.results_of("masking"):
        rows |= one.rows(run.name)
    note = "Measured by tools/masking.py."
    if not rows:
        rows = {run.name: _measure(run)}
        note = (
            f"Measured here on {len(run.indices):,} images with one random mask each; "
            "tools/masking.py draws several."
        )
    table = masking_table(rows)
    others = published_rows("masking", table.header)
    marked = [[f"{row[0]} (published)", *row[1:]] for row in others.rows]
    body = joined(
        [
            paragraph(
                "Mean cosine of the representations of a masked and the whole image, and its "
                "standard deviation over images. It is worth what lies between the curve and the "
                "dashed level, the cosine of different images: an encoder that maps everything to "
                "one point is perfectly invariant."
            ),
            grid([chart_of(rows)]),
            html_table(table, "Invariance to masking"),
            paragraph(note, "note"),
            details(
                f"The paper's rows, {data()}: other data than above, not to be compared",
                html_table(
                    Table(table.header, marked), f"Published: {source()}", range(len(marked))
                ),
            ),
        ]
    )
    return Section("masking", "Masking", body, [Download("masking.csv", chart_of(rows).csv())])


def chart_of(rows: Mapping[str, Mapping[str, Any]]) -> Chart:
    """Return the chart of rows of :func:`~msn_mm.evaluation.masking.masking_invariance`."""
    series, levels = [], []
    for name, row in rows.items():
        points = sorted((float(ratio), found) for ratio, found in row["by_ratio"].items())
        series.append(
            Series(
                name,
                [(ratio, found["mean"]) for ratio, found in points],
                [found["std"] or 0.0 for _, found in points],
            )
        )
        level = row["different_images"]
        of = f" ({name})" if len(rows) > 1 else ""
        levels.append(Level(level, f"different images{of}: {level:.2f}"))
    lowest = min(
        *(level.value for level in levels),
        *(y - e for s in series for (_, y), e in zip(s.points, s.spread, strict=True)),
    )
    return Chart(
        "Masked against whole",
        series,
        "share of patches hidden",
        "cosine similarity",
        levels,
        (max(-1.0, lowest - 0.15 * (1 - lowest)), 1.0),
        dots=True,
    )


def _measure(run: Run) -> dict[str, Any]:
    if not run.encoder.can_mask:
        raise UserError(f"{type(run.encoder.trunk).__name__} cannot drop patches")
    masked = {
        ratio: [
            run.encode(
                run.encoder, f"{run.name}: {ratio:.0%} masked", Mask(ratio, run.options.seed)
            )
        ]
        for ratio in _RATIOS
    }
    return masking_invariance(run.features, masked)
