"""Checkpoints of SimCLR, BYOL and the supervised baselines in the tools, on a few real digits."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import msn_mm
from msn_mm.engine.launch import load_config
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "simclr_digits": {"model.backbone.base_channels": 8},
    "byol_digits": {"model.backbone.base_channels": 8},
    "supervised_digits": {"model.backbone.embed_dim": 24, "model.backbone.depth": 1},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small config and a checkpoint of each; BYOL's two networks differ."""
    root = tmp_path_factory.mktemp("place")
    for name, options in SMALL.items():
        cfg = load_config(name, options)
        cfg.test_dataloader.dataset.support.indices = 100
        cfg.test_dataloader.dataset.query.indices = 60
        if "val_dataloader" in cfg and cfg.val_dataloader.dataset.type == "LabelledViews":
            cfg.val_dataloader.dataset.dataset.indices = 60
        cfg.dump(root / f"{name}.py")
        torch.manual_seed(3)
        model = MODELS.build(cfg.model)
        for parameter in getattr(model, "momentum_backbone", model.head).parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        torch.save({"state_dict": model.state_dict()}, root / f"{name}.pth")
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call(tool: str, *words: str) -> dict[str, Any]:
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    assert main([*words, "--out", tool]) == 0
    return json.loads(Path(tool, "results.json").read_text())


@pytest.mark.parametrize("tool", ["lowshot", "knn"])
def test_each_is_a_row(tool: str) -> None:
    rows = [w for n in SMALL if n != "simclr_digits" for w in ("--row", f"{n}.py", f"{n}.pth", n)]
    more = ["--images-per-class", "2", "--splits", "2"] if tool == "lowshot" else []
    names = ["--names", "simclr_digits", "--workers", "0"]
    found = call(tool, "simclr_digits.py", "simclr_digits.pth", *names, *rows, *more)
    assert list(found["metrics"]) == list(SMALL)


def test_features_are_those_of_the_network_that_the_paper_evaluates() -> None:
    images = torch.randint(0, 256, (3, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    pixels = (images - 78.0) / 90.0
    for name in ("simclr_digits", "byol_digits"):
        model = MODELS.build(load_config(f"{name}.py").model)
        model.load_state_dict(torch.load(f"{name}.pth", weights_only=True)["state_dict"])
        with torch.no_grad():
            own = model.eval().backbone(pixels)
        trunk = msn_mm.load_backbone(f"{name}.pth")
        with torch.no_grad():
            assert torch.allclose(trunk(pixels), own, atol=1e-5), name
        if name == "byol_digits":
            with torch.no_grad():
                assert not torch.allclose(model.momentum_backbone(pixels), own, atol=1e-2)
    # The tools read the same network from config and checkpoint.
    out = call("extract", "byol_digits.py", "byol_digits.pth", "--workers", "0")
    file = next(Path("extract").rglob("*query*.npz"), None) or next(Path("extract").rglob("*.npz"))
    features = np.load(file, allow_pickle=False)["features"]
    assert features.shape[1] == 32 and np.isfinite(features).all(), out


def test_the_supervised_head_is_tested_on_its_validation_images() -> None:
    found = call("test", "supervised_digits.py", "supervised_digits.pth")
    assert 0 <= found["metrics"]["accuracy/top1"] <= 100
