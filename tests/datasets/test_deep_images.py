"""16 bits and many channels: values are exact, and a window says what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from msn_mm.datasets import EvalCrop, MultiCrop, UnreadableImageError, decode, deep_images
from msn_mm.datasets.decode import as_pixels, read_image
from msn_mm.datasets.deep_images import read_pixels, read_values
from msn_mm.datasets.image_statistics import folder_statistics
from msn_mm.datasets.pixel_window import as_window, to_bytes
from msn_mm.errors import UserError
from tests.deep_files import BANDS, sensor, write_tiff

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
RGBA = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
MANY = RNG.integers(0, 65536, (20, 30, BANDS), dtype=np.uint16)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_values_of_16_bits_are_exact(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), GREY)
    values = read_values(tmp_path / name)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values[..., 0], GREY)
    content = (tmp_path / name).read_bytes()
    np.testing.assert_array_equal(read_values("no file", 1, content), values)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_values_of_a_16_bit_png_are_exact(tmp_path: Path, channels: int) -> None:
    order = [2, 1, 0, 3][:channels]  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "a.png"), RGBA[..., order])
    np.testing.assert_array_equal(read_values(tmp_path / "a.png"), RGBA[..., :3])
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_values(tmp_path / "cut.png")


WHITE = {"photometric": "miniswhite"}
TIFFS: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "side by side": (MANY, {}, MANY),
    "compressed": (MANY, {"compression": "zlib", "predictor": True}, MANY),
    "plane by plane": (MANY.transpose(2, 0, 1), {"planarconfig": "separate"}, MANY),
    "page by page": (MANY.transpose(2, 0, 1), {"planarconfig": None}, MANY),
    "big-endian": (MANY, {"byteorder": ">"}, MANY),
    "in tiles": (MANY, {"tile": (16, 16)}, MANY),
    "8 bits": ((MANY >> 8).astype(np.uint8), {}, (MANY >> 8).astype(np.uint8)),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_values_of_a_tiff_of_five_channels_are_exact(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("tifffile")
    image, options, expected = TIFFS[kind]
    write_tiff(tmp_path / "a.tif", image, **options)
    values = read_values(tmp_path / "a.tif", BANDS)
    assert values.dtype == expected.dtype and values.dtype.isnative
    np.testing.assert_array_equal(values, expected)
    pixels = as_pixels({"img_path": str(tmp_path / "a.tif")}, BANDS)
    full = np.iinfo(expected.dtype).max
    np.testing.assert_array_equal(pixels, np.floor(expected / full * 255 + 0.5))
    with pytest.raises(UnreadableImageError, match="channels, and 7 are wanted"):
        read_pixels(tmp_path / "a.tif", 7, None)


def test_what_a_tiff_calls_colour_alpha_and_white(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    colour = {"photometric": "rgb"}
    write_tiff(path, RGBA[..., :3], **colour)
    np.testing.assert_array_equal(read_values(path), RGBA[..., :3])
    write_tiff(path, RGBA, **colour, extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_values(path), RGBA[..., :3])
    # the fourth band of an aerial image is infrared, not transparency
    write_tiff(path, RGBA, **colour, extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_values(path), RGBA)
    write_tiff(path, (RGBA >> 8).astype(np.uint8), **colour, extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_values(path), RGBA >> 8)
    write_tiff(path, MANY, photometric="miniswhite")
    np.testing.assert_array_equal(read_values(path), 65535 - MANY)
    # depths and times are no channels: the first counts, as of an animation
    write_tiff(path, MANY.transpose(2, 0, 1), planarconfig=None, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(read_values(path), MANY[..., :1])
    np.testing.assert_array_equal(read_values(path, BANDS), MANY)


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_as_of_8_bits(tmp_path: Path, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    byte = (GREY >> 8).astype(np.uint8)
    Image.fromarray(byte).save(tmp_path / "8.png", exif=exif)
    expected = read_image(tmp_path / "8.png", 1)
    Image.fromarray(GREY).save(tmp_path / "16.png", exif=exif)
    np.testing.assert_array_equal(read_values(tmp_path / "16.png") >> 8, expected)
    Image.fromarray(byte).save(tmp_path / "8.tif", exif=exif)
    np.testing.assert_array_equal(read_values(tmp_path / "8.tif"), expected)
    pytest.importorskip("tifffile")
    write_tiff(tmp_path / "5.tif", byte[..., None].repeat(5, 2), extratags=[(274, 3, 1, number)])
    np.testing.assert_array_equal(read_values(tmp_path / "5.tif", 5)[..., 4:], expected)


@pytest.mark.parametrize("window", [(300, 4000), (0, 65535), (1000.5, 1001.5), (-500, 200000)])
def test_a_window_is_a_line_that_is_clipped_and_rounded(window: tuple[float, float]) -> None:
    low, high = window
    expected = np.floor((GREY[..., None].astype(float) - low) / (high - low) * 255 + 0.5).clip(
        0, 255
    )
    got = to_bytes(GREY[..., None], as_window(window, 1))
    assert got.dtype == np.uint8 and np.abs(got - expected).max() == 0
    pairs = [[100 * c, 5000 + 1000 * c] for c in range(BANDS)]
    got = to_bytes(MANY, as_window(pairs, BANDS))
    for c, (low, high) in enumerate(pairs):
        expected = np.floor((MANY[..., c].astype(float) - low) / (high - low) * 255 + 0.5).clip(
            0, 255
        )
        np.testing.assert_array_equal(got[..., c], expected)


@pytest.mark.parametrize("window", [(3, 3), (5, 1), [[0, 1], [0, 1]], (0, float("nan")), 7, "ab"])
def test_what_is_no_window_is_told(window: Any) -> None:
    for build in (
        lambda: EvalCrop(window=window),
        lambda: MultiCrop({"t": {"size": 8, "scale": (1, 1)}}, window=window),
    ):
        with pytest.raises(ValueError, match="window"):
            build()


def test_12_bits_keep_their_levels_through_a_window(tmp_path: Path) -> None:
    image = sensor(0)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    found = {"img_path": str(tmp_path / "a.png")}
    low, high = int(image.min()), int(image.max())
    as_before = as_pixels(found, 1)
    windowed = as_pixels(found, 1, as_window((low, high), 1))
    # the whole range of 16 bits leaves a 16th of the steps
    assert len(np.unique(as_before)) < 16 and len(np.unique(windowed)) > 200
    back = windowed / 255 * (high - low) + low
    assert np.abs(back - image).max() <= (high - low) / 255 / 2 + 1e-9
    # without a window nothing has changed
    np.testing.assert_array_equal(as_before, read_image(tmp_path / "a.png", 1))


def test_everyday_images_take_the_usual_road(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_images, "read_pixels", None)
    for mode, channels in (("RGB", 3), ("L", 1), ("RGBA", 3), ("L", 3)):
        Image.new(mode, (8, 8)).save(tmp_path / "a.png")
        assert as_pixels({"img_path": str(tmp_path / "a.png")}, channels).shape == (8, 8, channels)


def test_grey_and_colour_become_each_other_as_pillow_does_it(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    full = as_window((0, 255), 1)
    for channels in (1, 3):
        got = read_pixels(tmp_path / "a.png", channels, full)
        np.testing.assert_array_equal(got, read_image(tmp_path / "a.png", channels))
    Image.fromarray(colour[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_pixels(tmp_path / "a.png", 3, full), colour[..., :1].repeat(3, 2)
    )


def test_views_of_five_channels_are_those_of_each(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    image = sensor(1, BANDS)
    write_tiff(tmp_path / "a.tif", image)
    window = [[200 + c, 3000 + c] for c in range(BANDS)]
    crop: dict[str, Any] = {"resize": 40, "crop": 32}
    whole = EvalCrop(**crop, channels=BANDS, window=window)({"img_path": str(tmp_path / "a.tif")})
    views = {"t": {"size": 24, "scale": (0.5, 1.0), "ops": [{"type": "HorizontalFlip"}]}}
    cut = MultiCrop(views, channels=BANDS, window=window)
    seen = cut({"img_path": str(tmp_path / "a.tif"), "key": 5})["t"]
    assert seen["images"].shape == (1, BANDS, 24, 24)
    for c in range(BANDS):
        cv2.imwrite(str(tmp_path / "c.png"), image[..., c])
        one = {"img_path": str(tmp_path / "c.png")}
        band = EvalCrop(**crop, channels=1, window=window[c])
        assert torch.equal(whole[c : c + 1], band(one))
        alone = MultiCrop(views, channels=1, window=window[c])({**one, "key": 5})["t"]
        # torch's resampling takes another road for one channel
        gap = seen["images"][:, c].astype(int) - alone["images"][:, 0]
        assert np.abs(gap).max() <= 1
    again = EvalCrop(**EvalCrop(**crop, channels=BANDS, window=window).settings())
    assert torch.equal(again({"img_path": str(tmp_path / "a.tif")}), whole)
    assert "window" not in EvalCrop().settings()


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RNG.random((8, 8)).astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UnreadableImageError, match="floating-point pixels have no known range"):
        read_values(tmp_path / "float.tif")
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_values(tmp_path / "gone.png")
    (tmp_path / "a.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(UnreadableImageError):
        read_values(tmp_path / "a.tif")
    pytest.importorskip("tifffile")
    write_tiff(tmp_path / "5.tif", MANY)
    with pytest.raises(UnreadableImageError, match="other than 1 or 3 channels; msn-mm image-sta"):
        read_image(tmp_path / "5.tif")
    write_tiff(tmp_path / "i.tif", MANY.astype(np.int32))
    with pytest.raises(UnreadableImageError, match="int32 has no range that is known"):
        read_values(tmp_path / "i.tif")
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    for name in ("5.tif", "16.png"):
        cv2.imwrite(str(tmp_path / "16.png"), GREY)
        with pytest.raises(UnreadableImageError, match="pixels are more than"):
            read_values(tmp_path / name)


def test_a_missing_library_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_images, "_has_tifffile", lambda: False)
    (tmp_path / "5.tif").write_bytes(b"II*\0 as much as Pillow sees of it")
    with pytest.raises(UnreadableImageError, match=r"need tifffile: pip install 'msn_mm\[tiff\]'"):
        read_values(tmp_path / "5.tif")
    with pytest.raises(UserError, match=r"no image of .* pip install 'msn_mm\[tiff\]'"):
        folder_statistics(tmp_path)
    # what Pillow reads without loss needs nothing else
    cv2.imwrite(str(tmp_path / "a.tif"), GREY)
    np.testing.assert_array_equal(read_values(tmp_path / "a.tif")[..., 0], GREY)


def test_a_large_image_is_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60), 700, np.uint16))
    monkeypatch.setattr(decode, "FULL_PIXELS", 40 * 60 // 4)
    pixels = read_pixels(tmp_path / "a.png", 1, as_window((0, 1000), 1))
    assert pixels.shape == (20, 30, 1) and set(pixels.ravel().tolist()) == {179}
