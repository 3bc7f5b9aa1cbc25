"""What is seen of a machine and of a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from msn_mm.auto_pretraining import machine
from msn_mm.auto_pretraining.choices import choose
from msn_mm.auto_pretraining.config_writer import Data, cost_of_choices, make_config
from msn_mm.auto_pretraining.image_survey import list_folder, survey
from msn_mm.auto_pretraining.planning import make_plan
from msn_mm.auto_pretraining.settings import Start, Wishes
from msn_mm.datasets.decode import UnreadableImageError, read_header
from msn_mm.engine.distributed import init_distributed
from msn_mm.errors import UserError
from msn_mm.utils.device_memory import free_bytes
from tests.deep_files import BANDS, write_sensor


def save(folder: Path, count: int, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        photo = Image.fromarray(load_sample_images().images[k % 2]).convert(mode)
        photo.resize((60 + k, 40)).save(folder / f"{k:03d}.{('png', 'jpg')[k % 2]}")


def test_a_folder_of_photographs(tmp_path: Path) -> None:
    save(tmp_path / "a", 20)
    save(tmp_path / "b", 20)
    (tmp_path / "a" / "torn.jpg").write_bytes((tmp_path / "a" / "001.jpg").read_bytes()[:300])
    (tmp_path / "b" / "text.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("passed over")
    found = survey(tmp_path)
    assert found.count == 42 and found.headers == 42 and not found.is_grey
    assert found.short_side == (40, 40, 40) and found.formats == {"PNG": 20, "JPEG": 20}
    assert sorted(Path(name).name for name in found.broken) == ["text.png", "torn.jpg"]
    pixels = [np.asarray(Image.open(path).convert("RGB"), dtype=float) / 255
              for path in sorted(tmp_path.rglob("0*.*"))]  # fmt: skip
    mean = np.mean([p.mean(axis=(0, 1)) for p in pixels], axis=0) * 255
    square = np.mean([(p**2).mean(axis=(0, 1)) for p in pixels], axis=0) * 255**2
    assert found.mean == pytest.approx(mean, abs=0.5)
    assert found.std == pytest.approx(np.sqrt(square - mean**2), abs=0.5)
    assert survey(tmp_path) == found
    assert list_folder(tmp_path) == (42, found.digest)
    (tmp_path / "b" / "text.png").rename(tmp_path / "b" / "test.png")
    assert list_folder(tmp_path)[1] != found.digest
    assert "42 images, in colour, JPEG, PNG; shorter side 40 pixels; 2 of 42" in str(found)


def test_grey_images_whatever_their_files_store(tmp_path: Path) -> None:
    save(tmp_path, 20, "L")
    for k in range(20):
        Image.open(tmp_path / "000.png").convert("RGB").save(tmp_path / f"as_rgb{k}.jpg")
    found = survey(tmp_path)
    assert found.is_grey and found.channels == 1 == len(found.mean) == len(found.std)


def test_images_of_16_bits(tmp_path: Path) -> None:
    values = write_sensor(tmp_path, 40)
    found = survey(tmp_path)
    assert found.is_grey and found.channels == 1 and found.window is not None
    ((low, high),) = found.window
    assert np.min(values) <= low < high <= np.max(values)
    assert "40 images, grey of 16 bits" in str(found)


def test_images_of_many_channels(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    write_sensor(tmp_path, 33, BANDS)
    found = survey(tmp_path)
    assert not found.is_grey and found.channels == BANDS == len(found.mean)
    assert found.short_side == (64, 64, 64) and not found.broken
    assert f"33 images, {BANDS} channels of 16 bits, TIFF" in str(found)


def test_folders_that_are_no_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image under"):
        survey(tmp_path)
    save(tmp_path, 2)
    with pytest.raises(UserError, match=r"has 2 images; pre-training needs at least 32"):
        survey(tmp_path)
    for k in range(40):
        (tmp_path / f"{k:03d}.png").write_text("no image")
    (tmp_path / "001.jpg").write_text("")
    with pytest.raises(UserError, match=r"no image of .* can be read, for example .*not an image"):
        survey(tmp_path)


def test_a_header_knows_how_the_image_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    found = read_header(tmp_path / "turned.jpg")
    assert (found.width, found.height, found.format) == (20, 30, "JPEG")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImageError, match="empty file"):
        read_header(tmp_path / "empty.png")


def test_this_machine() -> None:
    found = machine.look_at_machine()
    assert found.cores >= 1 and found.flops_per_s > 1e8
    assert found.kind == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.memory is not None and found.memory > 0
    assert f"{found.cores} CPU core" in str(found)


def test_apple_s_gpu_is_taken_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * 2**30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**30)
    assert init_distributed("none").device == torch.device("mps")
    assert free_bytes(torch.device("mps")) == 9 * 2**30
    monkeypatch.setattr(machine, "matrix_rate", lambda device, dtype: float(device.type == "mps"))
    found = machine.look_at_machine()
    assert (found.kind, found.gpus, found.has_bf16, found.memory) == ("mps", 1, False, 9 * 2**30)
    assert found.flops_per_s == 1.0 and str(found).startswith("Apple GPU (mps), ")


@pytest.mark.parametrize("bands", [1, BANDS])
def test_training_and_measuring_read_through_one_window(tmp_path: Path, bands: int) -> None:
    pytest.importorskip("tifffile")
    write_sensor(tmp_path / "images", 32, bands)
    (tmp_path / "labels.csv").write_text("path,label\n" + "01.tif,a\n03.tif,b\n")
    data = Data(str(tmp_path / "images"), 32, str(tmp_path / "labels.csv"))
    images = survey(tmp_path / "images")
    chosen = choose(machine.look_at_machine(), images, Wishes(), cost_of_choices(data))
    cfg = make_config(chosen, data)
    train, measured = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert images.window is not None and len(images.window) == bands
    wanted = [list(pair) for pair in images.window]
    assert train.window == measured.window == wanted
    assert train.channels == measured.channels == cfg.model.backbone.in_chans == bands
    names = {op["type"] for op in train.views.target.ops}
    assert "Grayscale" not in names and ("ColorJitter" in names) == (bands == BANDS)


def test_a_checkpoint_of_other_channels_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    write_sensor(tmp_path, 32, BANDS)
    start = Start("three.pth", "a ViT", {}, 96, 8, 32, 3, (1.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match=f"three.pth reads 3 channel.* images have {BANDS}"):
        make_plan(machine.look_at_machine(), survey(tmp_path), Wishes(start=start), Data("", 32))
