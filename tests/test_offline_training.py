"""Training on data that download themselves, where there is no internet."""

from __future__ import annotations

import runpy
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

ROOT = Path(__file__).resolve().parent.parent
LINE = r"^cannot get CIFAR10 \(.*no such host.*\): download https://.*cifar-10-python\.tar\.gz and"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)


@pytest.mark.parametrize("config", ["finetune_vitb16_cifar10", "msn_cifar10"])
def test_a_training_tells_what_to_download(config: str, tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    place = tmp_path / "cifar"
    part = "dataset.dataset.data_root"
    words = [f"model.backbone.{size}" for size in ("embed_dim=24", "depth=1", "num_heads=3")]
    words += [f"train_dataloader.{part}={place}", "train_dataloader.num_workers=0"]
    words += ["train_dataloader.persistent_workers=False", "val_dataloader.num_workers=0"]
    words += [f"val_dataloader.{part}={place}"] if "finetune" in config else []
    with pytest.raises(UserError, match=f"{LINE} put it, as it is, into the folder {place}$"):
        main([f"configs/{config}.py", "--out", str(tmp_path / "out"), "--cfg-options", *words])


CIFAR = dict(type="CIFAR10", data_root="cifar", split="train")
CROP = dict(type="EvalCrop", resize=None, crop=None)


@pytest.mark.parametrize(
    "wrapper",
    [
        dict(type="LabelledViews", dataset=CIFAR, transform=CROP),
        dict(type="MultiViewDataset", dataset=CIFAR, transform=CROP),
        dict(type="LabelledImages", support=CIFAR, query=CIFAR, transform=CROP),
        dict(type="HeldOut", dataset=CIFAR, part="train", fraction=0.1),
    ],
    ids=lambda wrapper: str(wrapper["type"]),
)
def test_every_wrapper_tells_it(
    wrapper: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=LINE):
        DATASETS.build(wrapper)
