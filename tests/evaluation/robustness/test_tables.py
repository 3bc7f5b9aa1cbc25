"""What a reader is told beside the numbers."""

from __future__ import annotations

from typing import Any

from msn_mm.evaluation.robustness.normalising import by_alexnet, by_baseline
from msn_mm.evaluation.robustness.protocol import by_corruption
from msn_mm.evaluation.robustness.tables import notes, robustness_tables


def imagenet_c(fewest: int, most: int, classes: int) -> dict[str, Any]:
    measured = by_alexnet(by_corruption(lambda name, s: 10.0 * s, ("fog", "snow"), (1, 2)))
    counts = {"fewest_images": fewest, "images": most, "classes": classes}
    return {"imagenet_c": {**measured, **counts, "is_whole": (fewest, most) == (50_000, 50_000)}}


def test_images_of_a_part_of_imagenet_c() -> None:
    assert notes({"row": imagenet_c(50_000, 50_000, 1000)}) == []
    (line,) = notes({"row": imagenet_c(4, 4, 2)})
    assert "with 4 images of 2 classes mCE is comparable to no published one" in line
    (line,) = notes({"row": imagenet_c(49_999, 50_000, 1000)})
    assert "with 49,999 to 50,000 images of 1,000 classes mCE" in line


def corrupted(fog: float, by: str = "name") -> dict[str, Any]:
    measured = by_corruption(lambda name, s: fog if name == "fog" else 10.0, ("fog", "snow"), (1,))
    return {**measured, "clean_error": 1.0, "images": 4, "classes": 2, "classes_by": by}


def against(base: dict[str, Any], /, **rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"corrupted": by_baseline(row, base, "base")} for name, row in rows.items()}


def test_a_baseline_is_named_and_not_called_relative() -> None:
    base = corrupted(20.0)
    rows = against(base, other=corrupted(10.0), base=base)
    told = robustness_tables(rows)
    assert "corrupted, mCE against base" in told and "CE against base" in told
    assert "relative" not in told and "75.0" in told and "100.0" in told
    assert "CE against base" in robustness_tables({"base": rows["base"]})
    assert not any("baseline" in line for line in notes(rows))


def test_a_baseline_without_error_is_told() -> None:
    base = corrupted(0.0)
    rows = against(base, other=corrupted(10.0), base=base)
    assert rows["base"]["corrupted"]["mce_of_baseline"] is None
    (line,) = (line for line in notes(rows) if "baseline" in line)
    assert "the baseline base makes no error on fog, so" in line and "--severities" in line


def test_classes_told_by_their_order_are_named() -> None:
    rows = {"a": {"corrupted": corrupted(1.0)}, "b": {"corrupted": corrupted(1.0, "order")}}
    (line,) = (line for line in notes(rows) if "names of classes" in line)
    assert line.startswith("note: b: ") and "\n" not in line
    rows["b"] = {"corrupted": corrupted(1.0, "wnid")}
    assert not any("names of classes" in line for line in notes(rows))
