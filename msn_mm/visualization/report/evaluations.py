"""Section: every evaluation that lies in the directory, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.evaluation.baselines import accuracy_cells
from msn_mm.evaluation.linear_report import rows_cells
from msn_mm.evaluation.partial.table import NOTE, partial_tables
from msn_mm.evaluation.published_rows import data, published_rows, source
from msn_mm.evaluation.robustness.tables import summary_table
from msn_mm.evaluation.tables import knn_tables, low_shot_tables, transfer_table
from msn_mm.utils.results import Table, to_json
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    csv_of,
    details,
    html_table,
    joined,
    paragraph,
)
from msn_mm.visualization.report.run import Run
from msn_mm.visualization.report.work_dir import Results

Rows = Mapping[str, Any]

TITLES = {
    "lowshot": "Low-shot, logistic regression on frozen features",
    "knn": "k-nearest neighbours",
    "linear": "Linear evaluation with all labels",
    "partial": "Partial fine-tuning and linear evaluation",
    "transfer": "Linear transfer",
    "robustness": "Robustness",
    "demo": "Frozen features beside raw pixels and the untrained encoder",
    "test": "The config's own evaluation",
    "train": "Last values of the training",
    "finetune": "Last values of the fine-tuning",
}
# They have sections of their own.
_ELSEWHERE = ("masking", "rcdm", "show_views")
# What a file that some program wrote may lack or have in another form.
_UNLIKE = (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration)
_MOST_LEAVES = 200
# Tools that measure another's protocol.
_PROTOCOL = {"demo": "lowshot", "test": "lowshot"}


def section(run: Run) -> Section:
    """Show the tables of all results.

    Raises:
        UserError: There are none.
    """
    found = [one for one in run.work.results if one.program not in _ELSEWHERE]
    if not found:
        raise UserError(
            f"no results.json lies under {run.work.path}; measure the checkpoint: python "
            f"tools/lowshot.py CONFIG CHECKPOINT --out {run.work.path}/lowshot (knn.py, linear.py "
            "and the others alike), or name results elsewhere by --results"
        )
    body, downloads = [], []
    for number, one in enumerate(found):
        part, rows = show(one, run.name)
        body.append(part)
        name = f"{number + 1}_{one.tool}.csv"
        downloads += [Download(name, rows)] if rows else []
    return Section("evaluations", "Evaluations", joined(body), downloads)


def show(results: Results, name: str) -> tuple[Markup, str]:
    """Return one tool's tables, and their cells as comma-separated values."""
    parts = [
        Markup("<h3>{}</h3>\n").format(TITLES.get(results.tool, results.tool)),
        paragraph(
            Markup("{} · <code>{}</code>").format(f"tools/{results.tool}.py", results.path), "note"
        ),
    ]
    cells: list[Sequence[str]] = []
    for table in tables_of(results, name):
        parts += _beside_published(results, table)
        cells += [table.header, *table.rows]
    parts += [paragraph(text, "note") for text in _notes(results)]
    return joined(parts), csv_of(cells[0], cells[1:]) if cells else ""


def tables_of(results: Results, name: str) -> list[Table]:
    """Return one tool's numbers as tables; of a tool that is not known, all its numbers."""
    rows = results.rows(name)
    make = _TABLES.get(results.tool)
    if make is not None and rows:
        try:
            return [_flat(table) for table in make(rows)]
        except _UNLIKE:
            pass  # written by another version: its numbers are shown as they are
    leaves = list(_leaves(to_json(results.content.get("metrics"))))
    return [Table(["metric", "value"], leaves[:_MOST_LEAVES])] if leaves else []


def is_published_data(results: Results) -> bool:
    """Whether the numbers were measured on the data of the paper's: ImageNet's validation set."""
    settings = results.settings
    if results.tool == "robustness":
        return True  # its columns are named by their data
    if results.tool == "transfer":
        sets = settings.get("datasets")
        if not isinstance(sets, Mapping) or not {"cifar10", "cifar100"}.issuperset(sets):
            return False
        return all(one.get("query_images") == 10_000 for one in sets.values())
    images = settings.get("images")
    counts = [*images.values()] if isinstance(images, Mapping) else [settings.get("query_images")]
    return settings.get("classes") == 1000 and 50_000 in counts


def _beside_published(results: Results, table: Table) -> list[Markup]:
    caption = f"{TITLES.get(results.tool, results.tool)} ({table.header[0]})"
    others = published_rows(_PROTOCOL.get(results.tool, results.tool), table.header)
    if not others.rows or not table.header[0].startswith(("top-1", "classifier")):
        return [html_table(table, caption, is_titled=True)]
    rows = [[f"{row[0]} (published)", *row[1:]] for row in others.rows]
    if is_published_data(results):
        both = Table(table.header, [*table.rows, *rows])
        marked = range(len(table.rows), len(both.rows))
        return [
            html_table(both, caption, marked, is_titled=True),
            paragraph(f"Published: {source()}; measured there, not here.", "note"),
        ]
    return [
        html_table(table, caption, is_titled=True),
        details(
            f"The paper's rows, {data()}: other data than above, not to be compared",
            html_table(
                Table(table.header, rows), f"Published: {source()}, {data()}", range(len(rows))
            ),
        ),
    ]


def _notes(results: Results) -> Iterator[str]:
    if results.tool == "partial":
        yield NOTE
    if results.tool == "knn":
        yield "The paper gives no k-NN accuracy to stand beside."
    if results.tool in ("demo", "test", "lowshot") and results.settings.get("splits"):
        yield f"mean ± standard deviation over {results.settings['splits']} choices of the labels"


def _flat(table: Table) -> Table:
    """Name each row by itself: below a heading, or indented, it would not bear sorting."""
    rows, above = [], ""
    for name, *cells in table.rows:
        if name.startswith("  "):
            rows.append([f"{above}: {name.strip()}", *cells])
            continue
        above = name
        if any(cells) or not cells:
            rows.append([name, *cells])
    return Table(table.header, rows)


def _leaves(value: Any, name: str = "") -> Iterator[list[str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, bool | str):
        yield [name, str(value)]
    elif isinstance(value, int | float):
        yield [name, f"{value:.6g}"]


def _demo(rows: Rows) -> list[Table]:
    (measured,) = rows.values()
    names = {"raw_pixels": "raw pixels", "untrained": "untrained encoder", "msn": "trained"}
    return [accuracy_cells({names.get(key, key): value for key, value in measured.items()})]


_TABLES: dict[str, Callable[[Rows], list[Table]]] = {
    "lowshot": low_shot_tables,
    "knn": knn_tables,
    "linear": lambda rows: [rows_cells(rows)],
    "partial": partial_tables,
    "transfer": lambda rows: [transfer_table(rows)],
    "robustness": lambda rows: [summary_table(rows)],
    "demo": _demo,
    "test": lambda rows: [accuracy_cells(rows)],
}
