"""Photographs from pre-training to every frozen-feature protocol (10 CIFAR-10 classes)."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "cifar10_sample"

CONFIG = """
_base_ = [{base!r}]
sample = {sample!r}
data_root = sample + "/train"
model = dict(
    backbone=dict(embed_dim=96, depth=4, num_heads=3),
    head=dict(hidden_dim=256, output_dim=64, num_prototypes=64),
)
global_batch_size = 128
base_batch_size = 128
train_dataloader = dict(
    num_workers=0, persistent_workers=False, pin_memory=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="ImageFolder", data_root=sample + "/train"),
        transform=dict(views=dict(focal=dict(num=2))),
    ),
)
train_cfg = dict(max_epochs=6, val_interval=100)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.2, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, convert_to_iter_based=True),
]
val_cfg = val_dataloader = val_evaluator = None
test_dataloader = dict(
    num_workers=0,
    dataset=dict(
        support=dict(_delete_=True, type="ImageFolder", data_root=sample + "/train",
                     labels="folder"),
        query=dict(_delete_=True, type="ImageFolder", data_root=sample + "/test", labels="folder"),
    ),
)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason="the CIFAR-10 sample is not here"),
]


def call(tool: str, *words: str) -> dict[str, Any]:
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    assert main(["cifar.py", *words, "--out", tool]) == 0
    return json.loads(Path(tool, "results.json").read_text())


def test_from_photographs_to_every_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = str(ROOT / "configs" / "msn_cifar10.py")
    Path("cifar.py").write_text(CONFIG.format(base=base, sample=str(SAMPLE)))
    call("train")
    rows = ("train/epoch_6.pth", "none", "--names", "trained", "untrained")
    raw = ("--row", "configs/eval/raw_pixels.py", "none", "pixels")

    shots = call("lowshot", *rows, *raw, "--images-per-class", "5", "40", "--splits", "5")
    mean = {name: values["40"]["top1_mean"] for name, values in shots["metrics"].items()}
    # chance is 10 %; a few epochs already tell classes apart better than random weights do
    assert mean["trained"] > mean["untrained"] + 1 and mean["trained"] > 20

    again = call("lowshot", "none", "--subset-file", *shots["settings"]["split_files"][:5])
    assert again["metrics"]["5"]["top1"] == shots["metrics"]["untrained"]["5"]["top1"]

    nearest = call("knn", *rows, *raw)["metrics"]
    assert nearest["trained"]["20"]["top1"] > 20

    linear = call("transfer", *rows, "--data", str(SAMPLE), "--labels", "1000", "all")["metrics"]
    measured = linear["trained"]["cifar10_sample"]
    assert measured["all labels"]["top1_mean"] > measured["1000 labels"]["top1_mean"] > 20
    assert measured["all labels"]["images"] == [4000]

    masking = call("masking", *rows, "--masks", "2")["metrics"]
    ratios = masking["trained"]["by_ratio"]
    assert list(ratios) == ["0.15", "0.3", "0.5", "0.7", "0.9"]
    assert ratios["0.15"]["mean"] > ratios["0.9"]["mean"]
    # pre-training by matching masked views shows where much is hidden
    assert ratios["0.9"]["mean"] > masking["untrained"]["by_ratio"]["0.9"]["mean"]
    print(capsys.readouterr().out)
