"""The page of several trainings: what differs, curves over each other, tables beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.results import Table, to_json
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    csv_of,
    html_table,
    joined,
    paragraph,
)
from msn_mm.visualization.report.chart import Chart, Series, grid
from msn_mm.visualization.report.evaluations import TITLES, tables_of
from msn_mm.visualization.report.feature_map import draw_map
from msn_mm.visualization.report.masking import chart_of
from msn_mm.visualization.report.overview import facts
from msn_mm.visualization.report.run import Run
from msn_mm.visualization.report.training_curves import overlaid

# Differ between any two runs and tell nothing.
_PLACES = ("work_dir", "resume", "load_from", "experiment_name")


def overview(runs: Sequence[Run]) -> Section:
    """Tell what ran, a column a training."""
    told = {run.name: facts(run) for run in runs}
    names = list(dict.fromkeys(key for one in told.values() for key in one))
    rows = [
        [name, *(_shown(told[run.name].get(name)) for run in runs)]
        for name in names
        if any(told[run.name].get(name) is not None for run in runs)
    ]
    return _table_section("overview", "What ran", ["fact", *told], rows, "What ran")


def differences(runs: Sequence[Run]) -> Section:
    """List the settings in which the configs differ.

    Raises:
        UserError: A config is missing.
    """
    flat = {run.name: dict(_leaves(to_json(run.work.cfg.to_dict()))) for run in runs}
    keys = list(dict.fromkeys(key for one in flat.values() for key in one))
    rows = []
    for key in keys:
        values = [flat[run.name].get(key) for run in runs]
        if any(value != values[0] for value in values) and not key.startswith(_PLACES):
            rows.append([key, *(_shown(value) for value in values)])
    if not rows:
        return Section(
            "differences", "Settings that differ", paragraph("The configs are the same.", "missing")
        )
    header = ["setting", *flat]
    return _table_section("differences", "Settings that differ", header, rows, "Settings")


def curves(runs: Sequence[Run]) -> Section:
    """Draw each scalar that two trainings or more logged, a line a training.

    Raises:
        UserError: There is none.
    """
    charts = overlaid({run.name: run.work.history for run in runs})
    if not charts:
        raise UserError("no scalar was logged by two of these trainings")
    rows = [
        [chart.title, s.name, x, y] for chart in charts for s in chart.series for x, y in s.points
    ]
    header = ["scalar", "training", charts[0].x_label, "value"]
    return Section(
        "curves", "Training curves", grid(charts), [Download("curves.csv", csv_of(header, rows))]
    )


def evaluations(runs: Sequence[Run]) -> Section:
    """Put the tables of one tool and of one set of columns into one.

    Raises:
        UserError: There are no results.
    """
    merged: dict[tuple[str, tuple[str, ...]], list[Sequence[str]]] = {}
    for run in runs:
        for one in run.work.results:
            if one.tool not in TITLES:
                continue
            for table in tables_of(one, run.name):
                rows = merged.setdefault((one.tool, tuple(table.header)), [])
                rows += [[_of_run(run.name, row[0]), *row[1:]] for row in table.rows]
    if not merged:
        raise UserError("no results.json lies under these directories")
    body, downloads = [], []
    for number, ((tool, header), rows) in enumerate(merged.items()):
        title = TITLES[tool]
        body.append(Markup("<h3>{}</h3>\n").format(title))
        body.append(html_table(Table(header, rows), f"{title} ({header[0]})", is_titled=True))
        downloads.append(Download(f"{number + 1}_{tool}.csv", csv_of(header, rows)))
    return Section("evaluations", "Evaluations", joined(body), downloads)


def masking(runs: Sequence[Run]) -> Section:
    """Draw the masking curves that were measured over each other.

    Raises:
        UserError: There are none.
    """
    rows: dict[str, Any] = {}
    for run in runs:
        for one in run.work.results_of("masking"):
            rows |= {_of_run(run.name, name): row for name, row in one.rows(run.name).items()}
    if not rows:
        raise UserError("no curve was measured: python tools/masking.py CONFIG CHECKPOINT")
    whole = chart_of(rows)
    series = [Series(s.name, s.points) for s in whole.series]
    chart = Chart(
        whole.title,
        series,
        whole.x_label,
        whole.y_label,
        y_range=whole.y_range,
        dots=True,
        dashes=True,
    )
    return Section("masking", "Masking", grid([chart]), [Download("masking.csv", chart.csv())])


def maps(runs: Sequence[Run]) -> Section:
    """Draw the map of the features of each training.

    Raises:
        UserError: Features of one cannot be made.
    """
    parts, rows = [], []
    for run in runs:
        drawn, points = draw_map(run)
        parts.append(Markup("<div><h3>{}</h3>{}</div>\n").format(run.name, drawn))
        for name, (x, y) in zip(run.names, points, strict=True):
            rows.append([run.name, name, f"{x:.5f}", f"{y:.5f}"])
    body = joined(
        [
            Markup('<div class="charts">{}</div>\n').format(joined(parts)),
            paragraph(
                "Attention maps and prototypes are on each training's own page: tools/report.py "
                "with its directory alone.",
                "note",
            ),
        ]
    )
    header = ["training", "image", "x", "y"]
    return Section(
        "map", "Maps of the features", body, [Download("maps.csv", csv_of(header, rows))]
    )


def _table_section(
    id: str, title: str, header: Sequence[str], rows: list[list[str]], caption: str
) -> Section:
    table = html_table(Table(header, rows), caption, is_titled=True)
    return Section(id, title, table, [Download(f"{id}.csv", csv_of(header, rows))])


def _of_run(run: str, row: str) -> str:
    return row if row == run else f"{run}: {row}"


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{number}")
    else:
        yield name, value
