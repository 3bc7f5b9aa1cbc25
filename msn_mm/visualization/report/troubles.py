"""Section: what went wrong and was survived: damaged images, skipped steps, resumes, warnings."""

from __future__ import annotations

from typing import Any

from msn_mm.engine.log_files import DEPRECATIONS
from msn_mm.utils.results import Table
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    csv_of,
    details,
    html_table,
    joined,
    pairs,
    paragraph,
)
from msn_mm.visualization.report.overview import when
from msn_mm.visualization.report.run import Run

# The page names so many damaged files; the download names all.
_MOST_FILES = 200
_UNREADABLE = "unreadable image "


def section(run: Run) -> Section:
    """List damaged images, steps without a finite loss, resumes and warnings."""
    work = run.work
    bad = _bad_files(run)
    skipped = _skipped(run)
    body: list[Markup] = [
        pairs(
            [
                ("damaged images", f"{len(bad)}" if bad else "none"),
                ("steps skipped as not finite", f"{skipped}" if skipped else "none"),
                ("resumes", str(work.resumes)),
            ]
        )
    ]
    downloads = []
    if bad:
        files = list(bad.items())
        body.append(
            html_table(
                Table(["damaged image", "reason"], files[:_MOST_FILES]),
                "Images that could not be read; others took their places",
            )
        )
        if len(files) > _MOST_FILES:
            body.append(paragraph(f"The first {_MOST_FILES} of {len(files):,}.", "note"))
        downloads.append(Download("damaged_images.csv", csv_of(["image", "reason"], files)))
    if work.starts:
        starts = [
            [
                when(start.name),
                "" if start.first is None else f"{start.first:,}",
                "" if start.last is None else f"{start.last:,}",
                str(sum(start.warnings.values())),
            ]
            for start in work.starts
        ]
        table = Table(["started", "first logged iteration", "last one", "warnings"], starts)
        body.append(html_table(table, "Processes of the training, one a start"))
        downloads.append(Download("starts.csv", csv_of(table.header, table.rows)))
    warnings = _warnings(run)
    if warnings:
        rows = [[text, str(count)] for text, count in warnings.items()]
        body.append(
            details(
                f"Warnings of the log ({sum(warnings.values())})",
                html_table(Table(["warning", "times"], rows), "Warnings and errors of the log"),
            )
        )
        downloads.append(Download("warnings.csv", csv_of(["warning", "times"], rows)))
    return Section("troubles", "Troubles", joined(body), downloads)


def _bad_files(run: Run) -> dict[str, str]:
    """Damaged images by path: of the log, which goes further, and of the checkpoint."""
    found: dict[str, Any] = {}
    for text in (text for start in run.work.starts for text in start.warnings):
        if text.startswith(_UNREADABLE):
            told = text.removeprefix(_UNREADABLE).removesuffix("; another takes its place")
            path, _, reason = told.rpartition(": ")
            found[path] = reason
    named = run.work.hook_state("UnreadableImagesHook").get("named")
    # The checkpoint's reasons are whole, where a colon in a reason misleads the log's reader.
    return {**found, **named} if isinstance(named, dict) else found


def _skipped(run: Run) -> int:
    curve = run.work.history.train.get("skipped_steps")
    told = run.work.hook_state("NonFiniteStepsHook").get("total", 0)
    return max(int(curve[-1][1]) if curve else 0, int(told))


def _warnings(run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in run.work.starts:
        for text, count in start.warnings.items():
            if not text.startswith((_UNREADABLE, *DEPRECATIONS)):
                found[text] = found.get(text, 0) + count
    return found
