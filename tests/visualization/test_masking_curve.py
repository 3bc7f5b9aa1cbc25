from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.visualization import style
from msn_mm.visualization.masking_curve import plot_masking_curves

ROWS = {
    "msn.pth": {
        "images": 100,
        "different_images": 0.3,
        "by_ratio": {
            "0.15": {"mean": 0.99, "std": 0.02, "masks": 5},
            "0.9": {"mean": 0.8, "std": 0.1, "masks": 5},
        },
    },
    "random weights": {
        "images": 100,
        "different_images": -0.2,
        "by_ratio": {
            "0.9": {"mean": 0.5, "std": 0.05, "masks": 5},
            "0.15": {"mean": 0.7, "std": 0.05, "masks": 5},
        },
    },
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    kept = style.FigureCanvasAgg
    monkeypatch.setattr(style, "FigureCanvasAgg", lambda f: (made.append(f), kept(f))[1])
    return made


def test_lines_bands_and_references(tmp_path: Path, figures: list[Any]) -> None:
    plot_masking_curves(ROWS, tmp_path / "m.png")
    assert np.asarray(Image.open(tmp_path / "m.png")).shape[0] > 400
    (axis,) = figures[0].axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["msn.pth"].get_xdata(), [0.15, 0.9])
    np.testing.assert_allclose(lines["msn.pth"].get_ydata(), [0.99, 0.8])
    np.testing.assert_allclose(lines["random weights"].get_ydata(), [0.7, 0.5])
    dashed = [line for line in axis.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.3, -0.2]
    assert [d.get_color() for d in dashed] == [lines[name].get_color() for name in ROWS]
    bands = [c for c in axis.collections if isinstance(c, PolyCollection)]
    heights = bands[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.7) and heights.max() == 1.0, "no cosine above 1"
    assert axis.get_ylim()[0] < -0.2 and axis.get_ylim()[1] == 1
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["msn.pth", "random weights", "± 1 std over images", "different images"]


def test_published_values_are_drawn_when_given(tmp_path: Path, figures: list[Any]) -> None:
    plot_masking_curves(ROWS, tmp_path / "m.png", published={"MSN": {"0.15": 0.99, "0.9": 0.97}})
    lines = {line.get_label(): line for line in figures[0].axes[0].get_lines()}
    np.testing.assert_allclose(lines["MSN (published)"].get_ydata(), [0.99, 0.97])


def test_many_checkpoints_stay_apart(tmp_path: Path, figures: list[Any]) -> None:
    plot_masking_curves({str(i): ROWS["msn.pth"] for i in range(9)}, tmp_path / "m.png")
    labelled = [x for x in figures[0].axes[0].get_lines() if x.get_label() in "012345678"]
    looks = {(x.get_color(), str(x._linestyle), str(x._unscaled_dash_pattern)) for x in labelled}
    assert len(labelled) == len(looks) == 9


def test_a_failed_write_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.png"
    out.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="disk full"):
        plot_masking_curves(ROWS, out)
    assert out.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no masking"):
        plot_masking_curves({}, tmp_path / "m.png")
