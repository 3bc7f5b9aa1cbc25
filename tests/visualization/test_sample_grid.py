"""The grid of samples: every tile at one size, in its place."""

from __future__ import annotations

import numpy as np
import pytest

from msn_mm.visualization.recognition_curve import plot_recognition
from msn_mm.visualization.sample_grid import GridRow, plot_grid, scaled


def test_tiles_keep_their_pixels_where_the_scale_is_whole() -> None:
    tile = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    found = scaled(tile, 6)
    assert np.array_equal(found[::3, ::3], tile) and found.shape == (6, 6, 3)
    assert scaled(tile, 2) is tile
    assert scaled(np.full((4, 4, 3), 7, np.uint8), 6).mean() == 7


def test_colours_reach_the_picture(tmp_path) -> None:
    from PIL import Image

    red, blue = (np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    rows = [GridRow("a", [red, blue], True), GridRow("b", [blue, blue])]
    plot_grid(["one", ""], rows, tmp_path / "grid.png")
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    shares = [(pixels == colour).all(2).sum() for colour in ((255, 0, 0), (0, 0, 255))]
    assert shares[0] > 1000 and shares[1] / shares[0] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("count", [1, 12, 60])
def test_labels_are_whole_and_no_strip_stays_empty(tmp_path, count: int) -> None:
    from PIL import Image

    tile = np.full((8, 8, 3), 128, np.uint8)
    rows = [GridRow("A long name, 50% masked", [tile] * 4, k % 5 == 0) for k in range(count)]
    plot_grid(["one", "", "", ""], rows, tmp_path / "grid.png", "A title")
    ink = (np.asarray(Image.open(tmp_path / "grid.png").convert("L")) < 250).any(0)
    columns = np.flatnonzero(ink)
    assert 3 < columns[0] < 30 and 3 < len(ink) - columns[-1] < 30


def test_odd_rows_are_refused(tmp_path) -> None:
    tile = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="different lengths"):
        plot_grid(["x"], [GridRow("a", [tile]), GridRow("b", [tile, tile])], tmp_path / "x.png")
    with pytest.raises(ValueError, match="2 headings for 1 columns"):
        plot_grid(["x", "y"], [GridRow("a", [tile])], tmp_path / "x.png")
    with pytest.raises(ValueError, match="no recognition"):
        plot_recognition({}, 10.0, 97.0, tmp_path / "x.png")
