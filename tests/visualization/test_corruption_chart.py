"""The picture of corruption errors."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from msn_mm.evaluation.robustness.corruption_error import (
    ALEXNET_ERRORS,
    CORRUPTIONS,
    SEVERITIES,
)
from msn_mm.evaluation.robustness.protocol import by_corruption
from msn_mm.evaluation.robustness.tables import notes, robustness_tables
from msn_mm.visualization.corruption_chart import plot_corruptions


def test_rows_and_reference_are_drawn(tmp_path: Path) -> None:
    rows = {
        name: by_corruption(lambda c, s, k=k: 2.0 * len(c) + 8 * s + k, CORRUPTIONS, SEVERITIES)
        for k, name in enumerate(("one", "another"))
    }
    plot_corruptions(rows, tmp_path / "plain.png")
    plot_corruptions(rows, tmp_path / "norm.png", ("AlexNet", ALEXNET_ERRORS), title="ImageNet-C")
    plain, norm = (matplotlib.image.imread(tmp_path / f"{n}.png") for n in ("plain", "norm"))
    assert plain.shape == norm.shape and (plain != norm).any()
    single = {"one": {**rows["one"], "clean_error": 3.0}}
    plot_corruptions(single, tmp_path / "clean.png")
    assert (tmp_path / "clean.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no corruption errors"):
        plot_corruptions({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_tables_say_every_number() -> None:
    measured = by_corruption(lambda c, s: 10.0 * s, ("fog", "snow"), (1, 3))
    c = {**measured, "mce": 23.4, "is_whole": False, "classes": 2}
    c |= {"fewest_images": 20, "images": 20}
    c["corruptions"] = {name: {**one, "ce": 24.5} for name, one in c["corruptions"].items()}
    row = {
        "imagenet_a": {"top1": 37.46},
        "imagenet_c": c,
        "corrupted": {**measured, "clean_error": 7.0},
    }
    said = robustness_tables({"MSN": row})
    summary, by_hand, corrupted = said.split("\n\n")
    assert summary.splitlines()[2].split() == ["MSN", "37.5", "23.4", "7.0", "20.0"]
    assert by_hand.splitlines()[2].split() == ["fog", "10.0", "30.0", "20.0", "24.5"]
    assert by_hand.splitlines()[4].split() == ["mean", "10.0", "30.0", "20.0", "23.4"]
    assert corrupted.splitlines()[3].split() == ["snow", "10.0", "30.0", "20.0"]
    several = robustness_tables({"MSN": row, "other": row}).split("\n\n")
    assert several[1].splitlines()[2].split() == ["fog", "20.0", "24.5", "20.0", "24.5"]
    assert several[2].splitlines()[4].split() == ["mean", "20.0", "20.0"]
    told = notes({"MSN": row}, found=3)
    assert len(told) == 3 and told[0].startswith("3 passes") and "comparable to no" in told[1]
    assert notes({"MSN": {"imagenet_a": {"top1": 1.0}}}) == []
