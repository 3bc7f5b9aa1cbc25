"""Decoding: whatever the file, 8-bit RGB; damaged files named with a reason."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from msn_mm.datasets import UnreadableImageError, decode
from msn_mm.datasets.decode import as_pixels, read_header, read_image
from msn_mm.errors import UserError

RED = (200, 40, 20)


def save(path: Path, mode: str, **options: object) -> Path:
    image = Image.new("RGB", (20, 10), RED)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("a.jpg", "RGB", 3),
        ("a.jpg", "CMYK", 6),
        ("a.png", "RGB", 0),
        ("a.png", "RGBA", 0),
        ("a.png", "P", 0),
        ("a.gif", "P", 0),
        ("a.bmp", "RGB", 0),
        ("a.webp", "RGB", 8),
        ("a.tif", "RGB", 0),
        ("a.tiff", "CMYK", 6),
        ("a.ppm", "RGB", 0),
    ],
)
def test_formats_end_as_rgb(tmp_path: Path, name: str, mode: str, tolerance: int) -> None:
    pixels = read_image(save(tmp_path / name, mode))
    assert pixels.shape == (10, 20, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - RED).max() <= tolerance


def test_palette_with_transparent_entries(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "P", transparency=bytes([255, 0]))
    assert np.abs(read_image(path).astype(int) - RED).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes_end_as_rgb(tmp_path: Path, mode: str) -> None:
    pixels = read_image(save(tmp_path / "a.png", mode))
    assert pixels.shape == (10, 20, 3) and (pixels == pixels[..., :1]).all()


def test_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        pixels = read_image(tmp_path / name, channels=1)[..., 0]
        np.testing.assert_allclose(pixels, ramp / 257, atol=0.51)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate 270 degrees to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    pixels = read_image(tmp_path / "a.png", channels=1)
    np.testing.assert_array_equal(pixels[..., 0], np.rot90(np.asarray(image), -1))


def test_damaged_files_give_a_reason(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    Image.fromarray(noise).save(tmp_path / "whole.png")
    broken = bytearray((tmp_path / "whole.png").read_bytes())
    broken[60:90] = bytes(30)
    (tmp_path / "broken.png").write_bytes(broken)
    reasons = {
        "cut.jpg": "truncated",
        "empty.jpg": "empty file",
        "text.jpg": "not an image",
        "broken.png": "",
        "gone.jpg": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImageError, match=name) as caught:
            read_image(tmp_path / name)
        assert reason in caught.value.reason and "\n" not in str(caught.value)


def test_a_bomb_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(UnreadableImageError, match="exceeds limit"):
        read_image(save(tmp_path / "a.png", "RGB"))


def noise(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg", "a.tif"])
def test_a_large_image_is_read_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(decode, "FULL_PIXELS", 2500)
    monkeypatch.setattr(decode, "MAX_PIXELS", 200 * 128)
    pixels = noise(128, 192)
    options = {"progressive": True} if name.startswith("progressive") else {}
    if name.endswith("jpg"):
        options["quality"] = 95
    Image.fromarray(pixels).save(tmp_path / name, **options)
    read = read_image(tmp_path / name)
    assert read.shape == (32, 48, 3)  # a third of the sides were 43 x 64 = 2752 pixels
    expected = pixels.reshape(32, 4, 48, 4, 3).mean((1, 3))
    assert np.abs(read - expected).mean() < 10  # colours lie at half the resolution in JPEG


def test_beyond_the_limit_only_a_baseline_jpeg_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "FULL_PIXELS", 2500)
    monkeypatch.setattr(decode, "MAX_PIXELS", 10000)
    image = Image.fromarray(noise(128, 192))
    image.save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (32, 48, 3)
    for name, options in (("a.png", {}), ("p.jpg", {"progressive": True}), ("a.gif", {})):
        image.save(tmp_path / name, **options)
        with pytest.raises(UnreadableImageError, match=r"192 x 128 pixels are more than"):
            read_image(tmp_path / name)


def test_large_palettes_and_16_bits_are_read_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "FULL_PIXELS", 2500)
    pixels = noise(128, 192)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "deep.png", 1)[::2, ::2], pixels[::8, ::8, :1]
    )
    Image.fromarray(pixels).quantize(256).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").shape == (32, 48, 3)


def test_an_animation_gives_its_first_picture(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, (0, 0, 255))]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        pixels = read_image(tmp_path / name)
        assert pixels.shape == (10, 20, 3) and np.abs(pixels.astype(int) - RED).max() <= 8


def test_content_counts_and_not_the_name_and_no_program_is_started(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "RGB").rename(tmp_path / "really_png.jpg")
    assert read_image(tmp_path / "really_png.jpg").shape == (10, 20, 3)
    Image.new("RGB", (20, 10), RED).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "script.jpg")
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(tmp_path / "script.jpg")


def test_damaged_exif_leaves_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (20, 10), RED).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(path).shape == (10, 20, 3)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_every_orientation(tmp_path: Path, number: int, name: str) -> None:
    grey = np.zeros((16, 32), dtype=np.uint8)
    grey[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(grey).save(tmp_path / name, exif=exif)
    with (tmp_path / name).open("rb") as file, Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == ((32, 16) if number > 4 else (16, 32))
    np.testing.assert_array_equal(read_image(tmp_path / name, 1)[..., 0], expected)
    header = read_header(tmp_path / name)
    assert (header.height, header.width) == expected.shape


def test_odd_names_are_told_on_one_line_of_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff\n name\t\xc3\xa9 \xe2\x80\xae.jpg")
    with pytest.raises(UnreadableImageError) as caught:
        read_image(tmp_path / name)
    error = caught.value
    assert error.path == str(tmp_path / r"bad\xff\n name\té \u202e.jpg")
    assert str(error).encode() and "\n" not in str(error)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UnreadableImageError, match="no known range"):
        read_image(tmp_path / "f.tif")


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.jpg", "why")))
    assert (error.path, error.reason) == ("a.jpg", "why")


def test_arrays() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert as_pixels({"img": colour}, 3) is colour
    frozen = colour[..., ::-1]
    frozen.flags.writeable = False
    usable = as_pixels({"img": frozen}, 3)
    assert usable.flags.writeable and usable.flags.c_contiguous and (usable == frozen).all()
    assert as_pixels({"img": colour}, 1).shape == (6, 5, 1)
    grey = as_pixels({"img": colour[..., 0]}, 3)
    assert grey.shape == (6, 5, 3) and (grey == colour[..., :1]).all()
    assert as_pixels({"img": np.zeros((6, 5, 7), np.uint8)}, 7).shape == (6, 5, 7)
    with pytest.raises(UserError, match="3 channels and the views want 7"):
        as_pixels({"img": colour}, 7)
    with pytest.raises(UserError, match="must be uint8"):
        as_pixels({"img": colour.astype(np.float32)}, 3)
    with pytest.raises(UnreadableImageError, match="number 3: zero-sized"):
        as_pixels({"img": colour[:0], "sample_idx": 3}, 3)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg", "/dev/null"):
        with pytest.raises(UnreadableImageError, match="not a regular file"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"quality": 20}, {"subsampling": 0}, {"subsampling": 1}],
    ids=str,
)
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 3), ("L", 1), ("RGB", 1)])
def test_jpegs_have_the_pixels_that_pillow_reads(
    tmp_path: Path, mode: str, channels: int, options: dict[str, object]
) -> None:
    photo = Image.fromarray(load_sample_images().images[0][:99, :157]).convert(mode)
    photo.save(tmp_path / "a.jpg", **options)
    with Image.open(tmp_path / "a.jpg") as image:
        want = decode.to_array(image.convert("RGB" if channels == 3 else "L"))
    got = read_image(tmp_path / "a.jpg", channels)
    assert got.flags.writeable and got.flags.c_contiguous
    np.testing.assert_array_equal(got, want)


def test_torchvision_decodes_and_pillow_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(64, 96)).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    Image.fromarray(noise(64, 96)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    asked, decode_jpeg = [], decode.decode_jpeg

    def spy(data: torch.Tensor, mode: object) -> torch.Tensor:
        asked.append(len(data))
        return decode_jpeg(data, mode=mode)

    monkeypatch.setattr(decode, "decode_jpeg", spy)
    want = read_image(tmp_path / "a.jpg")
    assert asked == [(tmp_path / "a.jpg").stat().st_size]
    read_image(tmp_path / "cmyk.jpg")
    assert len(asked) == 1
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(tmp_path / "cut.jpg")
    assert len(asked) == 2

    def without_jpeg(data: torch.Tensor, mode: object) -> torch.Tensor:
        raise RuntimeError("decode_jpeg: torchvision not compiled with libjpeg support")

    monkeypatch.setattr(decode, "decode_jpeg", without_jpeg)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), want)
