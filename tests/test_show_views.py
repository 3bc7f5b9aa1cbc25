"""The picture of a training's views: the very pixels and masks that the training has."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_digits
from PIL import Image

from msn_mm.datasets.collate import multi_view_collate
from msn_mm.datasets.keys import SampleKey
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS, MODELS
from msn_mm.visualization.shown_views import HIDDEN, ShownView, ViewSource, painted

ROOT = Path(__file__).resolve().parent.parent


def main(*words: str) -> int:
    return runpy.run_path(str(ROOT / "tools" / "show_views.py"))["main"](list(words))


def test_the_views_are_those_of_a_training() -> None:
    cfg = tiny_digits(**{"model.mask_ratio.anchor": 0.5})
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model: Any = MODELS.build(cfg.model)
    batch = multi_view_collate([dataset[SampleKey(5, seed=7, epoch=2)]])
    inputs = model.data_preprocessor(batch, training=True)["inputs"]
    shown = list(ViewSource(cfg, 5).at(seed=7, epoch=2))
    assert [view.name for view in shown] == ["target", "anchor", "focal", "focal"]
    images = torch.cat([group["images"].flatten(1) for group in list(inputs.values())[:2]])
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    pixels = np.stack([view.pixels.ravel() for view in shown[:2]])
    expected = (images * std.flatten() + mean.flatten()).numpy()
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    hidden = shown[1].hidden
    assert hidden is not None and hidden.sum() == 8 and shown[0].hidden is None
    assert np.array_equal(hidden, model.hidden_patches("anchor", inputs["anchor"])[0].numpy())
    again = list(ViewSource(cfg, 5).at(seed=7, epoch=3))
    assert not np.array_equal(again[1].pixels, shown[1].pixels)


def test_hidden_patches_are_painted_over() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random((9, 9, 3)).astype(np.float32)
    hidden = np.zeros((2, 2), dtype=bool)
    hidden[0, 1] = True
    found = painted(ShownView("anchor", pixels, hidden, (4, 4)))
    assert np.array_equal(found[:4, 4:8], np.broadcast_to(HIDDEN, (4, 4, 3)))
    kept = np.ones((9, 9), dtype=bool)
    kept[:4, 4:8] = False
    assert np.array_equal(found[kept], pixels[kept])


def test_hidden_patches_lie_where_the_network_cuts_them() -> None:
    # 3 x 3 patches of 8 pixels; a quarter of the side is left over.
    size = {"model.backbone.img_size": 32, "model.backbone.patch_size": 8}
    cfg = load_config(
        "msn_digits", {**size, "train_dataloader.dataset.transform.views.anchor.size": 31}
    )
    (view,) = [v for v in ViewSource(cfg, 5).at(seed=0, epoch=0) if v.name == "anchor"][:1]
    assert view.hidden is not None and view.hidden.shape == (3, 3) and view.patch_size == (8, 8)
    pale = (painted(view) == HIDDEN).all(-1)
    for row, column in np.ndindex(3, 3):
        patch = pale[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert patch.all() == view.hidden[row, column]
    assert not pale[24:].any() and not pale[:, 24:].any()


def test_the_tool_draws_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)).save("photo.png")
    assert main("configs/msn_vits16.py", "photo.png", "--epochs", "2", "--out", "views") == 0
    with Image.open("views/views.png") as picture:
        assert picture.width > picture.height > 200
    results = json.loads(Path("views/results.json").read_text())
    assert results["metrics"]["views"] == 12
    assert results["metrics"]["hidden"]["anchor"] == pytest.approx(30 / 196)  # floor of 166.6 kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["configs/msn_digits.py"], "give one image"),
        (["configs/msn_digits.py", "no.png"], "image no.png is no file"),
        (["configs/msn_digits.py", "--index", "1297"], "numbers go from 0 to 1296"),
        (["configs/linear_digits.py", "--index", "0"], "give a pre-training config"),
        (["configs/msn_vits16.py", __file__], "not an image"),
    ],
)
def test_mistakes(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as told:
        main(*words, "--out", "views")
    assert "\n" not in str(told.value) and not Path("views").exists()


@pytest.mark.parametrize("name", ["simclr_digits", "byol_digits", "mocov3_digits", "dino_digits"])
def test_methods_without_masks(name: str) -> None:
    views = list(ViewSource(load_config(f"configs/{name}.py"), 0).at(seed=0, epoch=0))
    assert len(views) >= 2 and all(view.hidden is None for view in views)
