"""The benchmark of the low-shot solver at a tiny size."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_both_solvers_are_measured_at_the_same_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    script, figures = ROOT / "benchmarks" / "low_shot_solver.py", tmp_path / "figures.json"
    sizes = "--images 300 --classes 20 --width 32 --queries 400 --runs cyanure:1e-6 sklearn:1e-8"
    monkeypatch.setattr(sys, "argv", [str(script), *sizes.split(), "--json", str(figures)])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runpy.run_path(str(script), run_name="__main__")
    ours, reference = json.loads(figures.read_text())
    assert reference["excess"] == 0
    assert 0 < ours["excess"] < 1e-6
    assert 98 < ours["agreement"] <= reference["agreement"] == 100
    for result in (ours, reference):
        assert result["top1"] == pytest.approx(reference["top1"], abs=1)
        assert 100 / 20 < result["top1"] < result["top5"] < 100
        assert result["seconds"] > 0
        assert result["passes"] > 0
    title, _, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("300 x 32 features, 20 classes, 400 queries")
    assert [row.split()[0] for row in rows] == ["cyanure:1e-6", "sklearn:1e-8"]
