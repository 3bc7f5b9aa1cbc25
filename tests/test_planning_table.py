"""The planning table of the guide says what its benchmark prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from msn_mm.engine.launch import load_config
from msn_mm.utils.dry_run import make_plan
from tests.helpers import python_process

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "scaling.md").read_text()
ROWS = {row[1]: row[0] for row in re.findall(r"^(\| `(msn_\w+)` \|.*)$", GUIDE, re.MULTILINE)}
FIRST = "msn_vits16"


def table(folder: Path, *argv: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what the benchmark prints and what it writes."""
    file = folder / "rows.json"
    words = ["benchmarks/planning_table.py", *argv, "--json", file]
    printed = python_process(*words, cwd=ROOT, timeout=300)
    return printed.splitlines(), json.loads(file.read_text())


def test_the_guide_shows_what_is_printed(tmp_path: Path) -> None:
    deep = tmp_path / "deep.py"
    base = (ROOT / "configs" / "msn_digits.py").as_posix()
    deep.write_text(f'_base_ = ["{base}"]\nmodel = dict(backbone=dict(depth=8))\n')
    printed, rows = table(tmp_path, FIRST, "msn_digits", str(deep))
    assert ROWS[FIRST] in printed

    # Operations are counted, not taken from the formula beside them.
    four, eight = (next(r for r in rows if r["config"] == c) for c in ("msn_digits", str(deep)))
    assert four["gflops_counted"] == pytest.approx(
        make_plan(load_config("msn_digits")).flops / 1e9, rel=0.03
    )
    # Of the last block a quarter is computed.
    assert 2 < eight["gflops_counted"] / four["gflops_counted"] < 7.25 / 3.25

    # Days are images over rate: 180 epochs of 1,297 digits.
    days = 180 * 1297 / four["images_per_s"] / 86400
    assert four["days"] == pytest.approx(days)
    work = four["images_per_s"] * four["gflops_counted"] * 1e9
    assert four["machine"] == "1 RTX 4090" and work == pytest.approx(0.4 * 165e12, rel=1e-6)


@pytest.mark.slow
def test_all_rows_of_the_guide(tmp_path: Path) -> None:
    printed, _ = table(tmp_path)
    assert len(ROWS) == 6 and set(ROWS.values()) <= set(printed)
