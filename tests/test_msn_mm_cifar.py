"""``msn-mm`` on photographs: the ten classes of the CIFAR-10 sample, start to end."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import msn_mm_process

from msn_mm.engine.launch import load_config
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "cifar10_sample"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason="the CIFAR-10 sample is not here"),
]


def test_from_labels_of_photographs_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config("configs/msn_cifar10.py")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    content = {"state_dict": model.state_dict(), "meta": {"cfg": cfg.pretty_text}}
    torch.save(content, "untrained.pth")
    classes = sorted(path.name for path in (SAMPLE / "train").iterdir())
    with Path("labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for name in classes:
            for image in sorted((SAMPLE / "train" / name).iterdir())[:20]:
                rows.writerow([f"{name}/{image.name}", name])
    images = ("--images", str(SAMPLE / "train"))
    said = msn_mm_process("fit", "labels.csv", *images, "--checkpoint", "untrained.pth")
    assert "200 labelled images of 10 classes" in said and "images to 32 pixels" in said
    estimate = json.loads(Path("classifier.json").read_text())["metrics"]["estimate"]
    msn_mm_process("predict", "classifier.pth", str(SAMPLE / "test"))
    with Path("predictions.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(list((SAMPLE / "test").rglob("*.*"))) and not found[0]["error"]
    right = np.mean([row["label"] == row["path"].partition("/")[0] for row in found])
    low, high = estimate["overall"]["low"], estimate["overall"]["high"]
    print(100 * right, low, high, np.mean([row["unknown"] == "true" for row in found]))
    # random weights tell photographs apart better than chance, 10 %
    assert right > 0.12 and low <= 100 * right + 1 and 100 * right <= high + 3
    assert np.mean([row["unknown"] == "true" for row in found]) < 0.12
    msn_mm_process("export", "classifier.pth", "--to", "onnx")
    assert Path("classifier.onnx").stat().st_size > 4 * sum(
        p.numel() for p in model.target_backbone.parameters()
    )
