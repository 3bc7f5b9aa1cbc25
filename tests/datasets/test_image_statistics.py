"""A folder's statistics are those of its whole arrays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from msn_mm.commands.image_stats import SAMPLE as TOLD
from msn_mm.datasets.decode import read_image
from msn_mm.datasets.image_statistics import OUTSIDE, SAMPLE, folder_statistics
from msn_mm.datasets.pixel_window import as_window, to_bytes
from msn_mm.datasets.statistics_report import config_text, statistics_report
from msn_mm.errors import UserError
from tests.deep_files import BANDS, write_sensor, write_tiff


@pytest.mark.parametrize("bands", [1, BANDS])
def test_of_16_bits(tmp_path: Path, bands: int) -> None:
    if bands > 1:
        pytest.importorskip("tifffile")
    images = write_sensor(tmp_path, 8, bands)
    found = folder_statistics(tmp_path)
    assert (found.channels, found.bits, found.sampled, found.total) == (bands, 16, 8, 8)
    whole = np.concatenate([image.reshape(-1, bands) for image in images])
    assert found.lowest == tuple(whole.min(0)) and found.highest == tuple(whole.max(0))
    assert found.window is not None
    for c, (low, high) in enumerate(found.window):
        values = np.sort(whole[:, c])
        # the values a thousandth of all from either end
        place = int(OUTSIDE * len(values))
        assert (low, high) == (values[place], values[len(values) - 1 - place])
    mapped = to_bytes(whole[None], as_window(found.window, bands))[0].astype(np.float64)
    assert found.mean == pytest.approx(mapped.mean(0), abs=0.006)
    assert found.std == pytest.approx(mapped.std(0), abs=0.006)


def test_of_everyday_images(tmp_path: Path) -> None:
    photos = [photo[:300, :400] for photo in load_sample_images().images]
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    found = folder_statistics(tmp_path)
    whole = np.concatenate(photos).reshape(-1, 3).astype(np.float64)
    assert (found.channels, found.bits, found.window) == (3, 8, None)
    assert found.mean == pytest.approx(whole.mean(0), abs=0.006)
    assert found.std == pytest.approx(whole.std(0), abs=0.006)
    # a small image weighs as much as a large one, and grey is read as RGB among RGB
    Image.fromarray(photos[0][:20, :10, 0]).save(tmp_path / "0grey.png")
    found = folder_statistics(tmp_path)
    means = [photos[0][:20, :10, :1].repeat(3, 2), *photos]
    expected = np.mean([image.reshape(-1, 3).mean(0) for image in means], axis=0)
    assert found.channels == 3 and found.mean == pytest.approx(expected, abs=0.006)
    assert "window" not in config_text(found, tmp_path)


def test_a_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    write_sensor(tmp_path, 12)
    steps: list[tuple[int, int]] = []
    one = folder_statistics(tmp_path, 4, step=lambda *now: steps.append(now))
    assert steps == [(k, 4) for k in (1, 2, 3, 4)] and (one.sampled, one.total) == (4, 12)
    assert one == folder_statistics(tmp_path, 4) != folder_statistics(tmp_path, 4, seed=1)
    assert TOLD == SAMPLE


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    write_sensor(tmp_path / "a", 2)
    (tmp_path / "a" / "bad.png").write_text("no")
    found = folder_statistics(tmp_path / "a")
    assert list(found.errors.values()) == ["not an image"] and found.sampled == 2
    assert "1 files cannot be read" in statistics_report(found, "a")
    Image.new("L", (8, 8), 7).save(tmp_path / "a" / "byte.png")
    mixed = folder_statistics(tmp_path / "a")
    assert (mixed.bits, mixed.window, mixed.sampled) == (8, None, 3)
    (note,) = mixed.notes
    assert "8 and of 16 bits" in note and "byte.png" in note
    # as a training reads them that is told of no window
    files = [path for path in (tmp_path / "a").iterdir() if path.name != "bad.png"]
    mean = np.mean([read_image(path, 1).mean() for path in files])
    assert mixed.mean == pytest.approx([mean], abs=0.01) and mixed.is_grey
    Image.new("RGB", (8, 8), (7, 9, 200)).save(tmp_path / "a" / "colour.png")
    coloured = folder_statistics(tmp_path / "a")
    assert coloured.channels == 3 and not coloured.is_grey
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "bad.png").write_text("no")
    with pytest.raises(UserError, match=r"no image of .* can be read: .*bad\.png: not an image"):
        folder_statistics(tmp_path / "b")
    # a black folder has no deviation, and no window but the least
    cv2.imwrite(str(tmp_path / "b" / "bad.png"), np.full((4, 4), 9, np.uint16))
    found = folder_statistics(tmp_path / "b")
    assert found.window == ((9.0, 10.0),) and found.std == (1.0,)


def test_pages_are_channels_where_they_are_said_to_be(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    stack = np.random.default_rng(0).integers(0, 4096, (BANDS, 9, 8), dtype=np.uint16)
    write_tiff(tmp_path / "a.tif", stack, planarconfig=None)
    first = folder_statistics(tmp_path)
    assert first.channels == 1 and first.highest == (stack[0].max(),)
    assert f"give --channels {BANDS}" in first.notes[0]
    every = folder_statistics(tmp_path, channels=BANDS)
    assert every.highest == tuple(stack.max((1, 2))) and every.notes == ()
    write_tiff(tmp_path / "b.tif", stack[:3], planarconfig=None)
    with pytest.raises(UserError, match="1 channels, not 5"):
        folder_statistics(tmp_path, channels=BANDS)
