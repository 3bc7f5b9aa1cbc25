"""16-bit and five-channel images from statistics to predictions, by the commands a user types."""

from __future__ import annotations

import csv
import io
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.__main__ import main
from msn_mm.datasets import EvaluationImages, FileList
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import build_encoder
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.few_labels.encoder import read_encoder
from msn_mm.few_labels.predictor import load_predictor
from tests.deep_files import BANDS, write_sensor

ROOT = Path(__file__).resolve().parent.parent
TINY = """
model["backbone"] = dict(
    **model.get("backbone", {}), name="vit_tiny_patch16_224", img_size=32, patch_size=8,
    embed_dim=24, depth=1, num_heads=3,
)
model["head"] = dict(in_dim=24, hidden_dim=16, output_dim=8, num_prototypes=8)
_ops = [
    dict(type="HorizontalFlip"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=1.0),
    dict(type="Grayscale", p=0.5), dict(type="GaussianBlur", p=0.5),
]
_large = dict(size=32, scale=(0.3, 1.0), ops=_ops)
_views = dict(target=_large, anchor=_large, focal=dict(size=16, scale=(0.1, 0.4), num=1, ops=_ops))
train_dataloader["dataset"]["transform"] = dict(**_reading, views=_views)
train_dataloader.update(num_workers=0, persistent_workers=False, pin_memory=False)
global_batch_size = 4
train_cfg = dict(max_epochs=1)
_part = dict(type="ImageFolder", data_root=LABELLED, labels="folder")
val_dataloader = test_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="LabelledImages", support=_part, query=_part,
        transform=dict(type="EvalCrop", resize=36, crop=32, **_reading),
    ),
)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type="LowShotMetric", images_per_class=(1,), splits=1)
"""


def tool(name: str) -> Any:
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))["main"]


@pytest.mark.parametrize("bands", [1, BANDS])
def test_from_statistics_to_predictions(
    bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if bands > 1:
        pytest.importorskip("tifffile")
    monkeypatch.chdir(tmp_path)
    for first, name in enumerate(("one", "two")):
        write_sensor(Path("images", name), 6, bands, first=6 * first)
    assert main(["image-stats", "images", "--out", "stats.json"]) == 0
    said = capsys.readouterr().out
    stats = json.loads(Path("stats.json").read_text())["metrics"]
    assert (stats["channels"], stats["bits"], stats["images"]) == (bands, 16, 12)
    # the printed config, as it is, on what it inherits from
    text = re.search(r"^_base_ = .*?\n\n(.*?)\n\nresults:", said, re.DOTALL | re.MULTILINE)
    assert text is not None
    base = [str(ROOT / "configs" / "msn_folder.py")]
    tiny = TINY.replace("LABELLED", repr(str(tmp_path / "images")))
    Path("mine.py").write_text(f"_base_ = {base!r}\n{text[1]}\n{tiny}")
    options = ["param_scheduler.0.end=1", "param_scheduler.1.begin=0"]
    assert tool("train")(["mine.py", "--work-dir", "run", "--cfg-options", *options]) == 0

    # what the checkpoint alone says of its images is what the config says
    cfg = load_config("mine.py")
    source = read_encoder("run")
    window = tuple(map(tuple, stats["window"]))
    assert source.view.window == (window if len(set(window)) > 1 else window[:1])
    assert source.view.channels == bands
    by_config = folder_images(cfg, "images")
    assert by_config.transform.window == source.view.window
    through = EvaluationImages(by_config.dataset, source.view)
    one, other = source.build(), build_encoder(cfg, "run/epoch_1.pth", device="cpu")
    images = torch.stack([through[i] for i in range(12)])
    assert images.shape[1] == bands and images.float().std() > 40  # not a dark few of 256 levels
    torch.testing.assert_close(one(images), other(images), atol=1e-5, rtol=1e-5)

    # a converted copy says it too, and one of another project's format is told about
    assert tool("convert")(["run/epoch_1.pth", "own.safetensors", "--to", "msn_mm"]) == 0
    assert "no place for the window" not in capsys.readouterr().out
    assert read_encoder("own.safetensors").view.settings() == source.view.settings()
    assert tool("convert")(["run/epoch_1.pth", "timm.safetensors", "--to", "timm"]) == 0
    assert "has no place for the window of pixel values: map [[" in capsys.readouterr().out

    # fit, predict and suggest read through the same window, and k-NN finds each image itself
    words = ("--checkpoint", "run", "--workers", "0")
    assert main(["fit", "images", *words, "--lambd", "0.01", "--out", "c.pth"]) == 0
    assert load_predictor("c.pth").content.view.settings() == source.view.settings()
    assert main(["predict", "c.pth", "images", "--workers", "0", "--out", "p.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(Path("p.csv").read_text())))
    assert len(rows) == 12 and not any(row["error"] for row in rows)
    assert all(row["nearest"] == row["path"] and float(row["similarity"]) == 1.0 for row in rows)
    assert main(["label-suggest", "images", *words, "--number", "3", "--no-cache"]) == 0
    assert "data:image/png" in Path("suggestions/suggestions.html").read_text()
    knn = ["mine.py", "run/epoch_1.pth", "--workers", "0", "--no-cache", "--out", "knn"]
    assert tool("knn")([*knn, "--k", "1"]) == 0
    (view,) = json.loads(Path("knn/results.json").read_text())["settings"]["views"].values()
    assert view["window"] == [list(pair) for pair in source.view.window or ()]
    file = sorted(Path("images").rglob("*.*"))[0]
    assert tool("show_views")(["mine.py", str(file), "--out", "views"]) == 0


def test_an_evaluation_through_another_window_is_refused(tmp_path: Path) -> None:
    write_sensor(tmp_path / "images" / "a", 1)
    reading = "_reading = dict(channels=1, window=[[100, 4000]])\nmodel = dict()\n"
    reading += "train_dataloader = dict(dataset=dict(transform=_reading))\n"
    tiny = TINY.replace("LABELLED", repr(str(tmp_path / "images")))
    tiny = tiny.replace("crop=32, **_reading", "crop=32, channels=1")
    base = [str(ROOT / "configs" / "msn_folder.py")]
    (tmp_path / "mine.py").write_text(f"_base_ = {base!r}\n{reading}{tiny}")
    with pytest.raises(UserError, match="val_dataloader reads pixels through the window None and"):
        load_config(tmp_path / "mine.py")


def test_files_listed_one_by_one_are_read_the_same(tmp_path: Path) -> None:
    values = write_sensor(tmp_path, 2)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    view = dict(type="EvalCrop", resize=None, crop=None, channels=1, window=(0, 4095))
    images = EvaluationImages(FileList(files), view)
    for i, expected in enumerate(values):
        got = images[i][0].numpy()
        assert abs(got - expected[..., 0] / 4095 * 255).max() <= 0.5
