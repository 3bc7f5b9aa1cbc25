"""The numbers that the paper published, to stand beside one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from msn_mm.evaluation.tables import heading
from msn_mm.utils.results import Table


@cache
def _published() -> dict[str, Any]:
    path = resources.files("msn_mm.evaluation") / "published_rows.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def source() -> str:
    """Return the paper that the numbers are from."""
    return str(_published()["source"])


def data() -> str:
    """Return the data that they were measured on."""
    return str(_published()["data"])


def published_rows(tool: str, header: Sequence[str]) -> Table:
    """Return the published rows of a protocol, in the columns of a table of one's own.

    Args:
        tool: ``lowshot``, ``linear``, ``partial``, ``robustness`` or ``masking``; of
            others nothing was published.
        header: The headings of the table.

    Returns:
        Rows with a number in one of the columns at least; those are cells as the paper
        prints them.
    """
    rows = []
    for name, cells in _published().get(tool, {}).items():
        named = {_heading(tool, key): text for key, text in cells.items()}
        row = [named.get(column, "") for column in header[1:]]
        if any(row):
            rows.append([name, *row])
    return Table(header, rows)


def _heading(tool: str, key: str) -> str:
    if tool == "masking":
        return f"{float(key):.0%} masked"
    return heading(key) if tool in ("lowshot", "partial") else key
