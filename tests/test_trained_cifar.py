"""Photographs through the trained protocols (10 CIFAR-10 classes): each learns, for real."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "cifar10_sample"

SIZES = "name='vit_tiny_patch16_224', img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3"

# The labelled photographs of a model, and a model to start from.
MODEL = """
_base_ = [{base!r}]
part = dict(type="ImageFolder", labels="folder")
model = dict(backbone=dict({sizes}))
val_cfg = val_dataloader = val_evaluator = None
data_root = {sample!r} + "/train"
train_dataloader = dict(
    num_workers=0, persistent_workers=False, pin_memory=False,
    dataset=dict(dataset=dict(_delete_=True, type="ImageFolder", data_root=data_root),
                 transform=dict(views=dict(focal=dict(num=2)))),
)
global_batch_size = base_batch_size = 64
train_cfg = dict(max_epochs=2)
param_scheduler = []
test_dataloader = dict(num_workers=0, dataset=dict(
    support=dict(_delete_=True, **part, data_root=data_root),
    query=dict(_delete_=True, **part, data_root={sample!r} + "/test"),
))
"""

# The recipe of appendix C.5 for CIFAR-10 at the size of these photographs.
FINETUNE = """
_base_ = [{base!r}]
part = dict(_delete_=True, type="ImageFolder", labels="folder")
data_root = {sample!r} + "/train"
model = dict(backbone=dict({sizes}))
train_dataloader = dict(
    num_workers=0, persistent_workers=False, pin_memory=False,
    dataset=dict(dataset=dict(part, data_root=data_root), indices=list(range(0, 4000, 2)),
                 transform=dict(size=32, scale=(0.4, 1.0))),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(dataset=dict(part, data_root={sample!r} + "/test"),
                 transform=dict(resize=None, crop=None)),
)
global_batch_size = base_batch_size = 64
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, convert_to_iter_based=True),
]
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason="the CIFAR-10 sample is not here"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both configs, and a checkpoint of two short epochs of MSN."""
    root = tmp_path_factory.mktemp("photographs")
    for name, text, base in (
        ("model", MODEL, "msn_cifar10"),
        ("tuned", FINETUNE, "finetune_vitb16_cifar10"),
    ):
        base = str(ROOT / "configs" / f"{base}.py")
        written = text.format(base=base, sample=str(SAMPLE), sizes=SIZES)
        (root / f"{name}.py").write_text(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        tool("train")(["model.py", "--out", "train"])
    return root


def tool(name: str) -> Any:
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))["main"]


def call(name: str, *words: str) -> dict[str, Any]:
    assert tool(name)([*words, "--out", name]) == 0
    return json.loads(Path(name, "results.json").read_text())


def test_linear_evaluation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    best = call(
        "linear",
        *("model.py", "train/epoch_2.pth", "--epochs", "4", "--holdout", "0.1"),
        *("--scale", "0.4", "1", "--lr-scales", "1", "10", "100", "--workers", "0"),
    )["metrics"]["best"]
    assert best["top1"] > 18, "chance is 10 %"


def test_fine_tuning_and_robustness(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    top1 = call("finetune", "tuned.py", "train/epoch_2.pth")["metrics"]["accuracy/top1"]
    log = next(Path("finetune").rglob("scalars.json")).read_text().splitlines()
    by_epoch = [v["accuracy/top1"] for v in map(json.loads, log) if "accuracy/top1" in v]
    print(f"fine-tuned {by_epoch}")
    # The head that it starts with knows nothing: 10 %.
    assert top1 > 15 and len(by_epoch) == 2 and by_epoch[-1] == pytest.approx(top1)

    pytest.importorskip("imagecorruptions")
    words = ("tuned.py", "finetune/epoch_2.pth", "--corrupt", "config", "--workers", "0")
    few = ("--corruptions", "brightness", "contrast", "--severities", "1", "5")
    wide = call("robustness", *words, *few, "--baseline", "tuned.py", "finetune/epoch_1.pth")
    measured = wide["metrics"]["epoch_2.pth"]["corrupted"]
    assert measured["clean_error"] == pytest.approx(100 - top1, abs=0.11)
    one, five = measured["corruptions"]["contrast"]["errors"]
    assert measured["clean_error"] - 3 < one < five
    assert wide["metrics"]["epoch_1.pth"]["corrupted"]["mce_of_baseline"] == pytest.approx(100)


def test_partial_fine_tuning(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = ("--images-per-class", "13", "--splits", "3", "--views", "4", "--scale", "0.4", "1")
    words += ("--lrs", "0.001", "--epochs", "30", "--workers", "0")
    measured = call("partial", "model.py", "train/epoch_2.pth", *words)["metrics"]["13"]
    shown = {name: measured[name]["top1"] for name in ("partial", "linear")}
    print(f"the last block and a head, or logistic regression: {shown}")
    assert measured["partial"]["images"] == [130] * 3
    assert min(shown["partial"]) > 13, "chance is 10 %, and what it starts with"
