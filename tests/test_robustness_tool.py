"""tools/robustness.py, from the command line to results.json, on real images."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.robustness.stand_ins import LENET, train_lenet
from PIL import Image

import msn_mm
from msn_mm.datasets import Digits
from msn_mm.errors import UserError
from msn_mm.evaluation.robustness.imagenet_classes import subset_wnids

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "imagenet_sample"

FEW = ["--corruptions", "gaussian_noise", "contrast", "--severities", "1", "5", "--seed", "3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    (root / "lenet.py").write_text(LENET)
    train_lenet(root / "lenet.py", root / "good.pth", epochs=3)
    train_lenet(root / "lenet.py", root / "start.pth", epochs=1)
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call(*words: str | Path, workers: int = 0) -> dict[str, Any]:
    argv = [str(word) for word in words]
    out = argv[argv.index("--out") + 1]
    main = runpy.run_path(str(ROOT / "tools" / "robustness.py"))["main"]
    assert main([*argv, "--workers", str(workers)]) == 0
    return json.loads((Path(out) / "results.json").read_text())


def test_digits_corrupted_beside_a_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imagecorruptions")
    words = ["lenet.py", "good.pth", "--corrupt", "config", *FEW]
    results = call(*words, "--baseline", "lenet.py", "start.pth", "start", "--out", "two")
    good, start = (
        results["metrics"]["good.pth"]["corrupted"],
        results["metrics"]["start"]["corrupted"],
    )
    # trained longer it knows more, and stronger corruptions hurt more
    assert good["clean_error"] < 15 < start["clean_error"] + 10
    assert good["mean_error"] < start["mean_error"]
    one, five = good["corruptions"]["contrast"]["errors"]
    assert five > one + 20 and one >= good["clean_error"] - 2
    assert start["mce_of_baseline"] == pytest.approx(100.0)
    ratios = [
        100 * sum(good["corruptions"][c]["errors"]) / sum(start["corruptions"][c]["errors"])
        for c in ("gaussian_noise", "contrast")
    ]
    assert good["mce_of_baseline"] == pytest.approx(sum(ratios) / 2)
    assert good["mce_of_baseline"] < 95 and good["images"] == 200
    said = capsys.readouterr().out
    assert (
        f"{good['mce_of_baseline']:.1f}" in said
        and "mCE against start" in said
        and "corrupted, mean error (%)" in said
    )
    assert Path("two/corrupted.png").read_bytes().startswith(b"\x89PNG")
    assert results["settings"]["corrupted_by"].startswith("imagecorruptions-imaug ")
    # alone, by two workers, other batches: the same numbers
    alone = call(*words, "--out", "one", "--batch-size", "7", workers=2)
    plain = {k: v for k, v in good.items() if "baseline" not in k}
    plain["corruptions"] = {
        name: {k: v for k, v in one.items() if "baseline" not in k}
        for name, one in good["corruptions"].items()
    }
    assert alone["metrics"]["corrupted"] == plain
    # the order in which corruptions are named, and twice, changes nothing
    capsys.readouterr()
    mixed = ["--corruptions", "contrast", "gaussian_noise", "contrast", "--severities", *"515"]
    again = call(*words[:4], *mixed, "--seed", "3", "--out", "one")
    assert again["metrics"] == alone["metrics"]
    assert again["settings"]["severities"] == [1, 5]
    assert "5 passes had been finished before" in capsys.readouterr().out
    other_seed = call(*words, "--seed", "4", "--out", "one")
    assert len(json.loads(Path("one/passes.json").read_text())["passes"]) == 5 + 4
    assert other_seed["metrics"]["corrupted"]["clean_error"] == good["clean_error"]


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imagecorruptions")
    words = ["lenet.py", "good.pth", "--corrupt", "config", "--severities", "2", "3"]
    words += ["--corruptions", "gaussian_noise", "shot_noise", "pixelate", "jpeg_compression"]
    command = [sys.executable, str(ROOT / "tools" / "robustness.py"), *words, "--workers", "0"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--out", "killed"], env=environ)
    passes = Path("killed/passes.json")
    until = time.monotonic() + 120
    while not passes.is_file() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads(passes.read_text())["passes"]
    assert 1 <= len(before) < 9 and not Path("killed/results.json").exists()
    capsys.readouterr()
    resumed = call(*words, "--out", "killed")
    assert f"{len(before)} passes had been finished before" in capsys.readouterr().out
    assert resumed["metrics"] == call(*words, "--out", "fresh")["metrics"]


def test_a_folder_of_digits_is_told_by_its_names(place: Path) -> None:
    pytest.importorskip("imagecorruptions")
    digits = Digits(split="test", indices=60)
    for number in range(len(digits)):
        info = digits.get_data_info(number)
        # only some of the classes: the checkpoint names them all
        if info["gt_label"] in (3, 7, 8):
            folder = place / "digits" / str(info["gt_label"])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(info["img"][..., 0]).save(folder / f"{number}.png")
    words = ["lenet.py", "good.pth", "--corrupt", "digits", *FEW, "--out", "folder"]
    measured = call(*words)["metrics"]["corrupted"]
    assert measured["classes"] == 3 and measured["clean_error"] < 25
    (place / "digits" / "eel").mkdir()
    with pytest.raises(UserError, match=r"class folder digits/eel holds no image"):
        call(*words)
    Image.new("L", (32, 32)).save(place / "digits" / "eel" / "0.png")
    with pytest.raises(UserError, match="has 4 classes and the classifier has 10 outputs"):
        call(*words)
    # of several rows none is measured before all of them fit
    with pytest.raises(UserError, match=r"good\.pth: --corrupt digits has 4 classes"):
        call(*words[:-1], "unmeasured", "--row", "lenet.py", "start.pth", "start")
    assert not Path("unmeasured/passes.json").exists()
    with pytest.raises(UserError, match=r"good\.pth: --imagenet-a .* this one has 10 outputs"):
        call("lenet.py", "good.pth", "start.pth", "--imagenet-a", "digits", "--out", "unmeasured")


def test_what_a_user_can_get_wrong(place: Path) -> None:
    (place / "some").mkdir(exist_ok=True)
    (place / "some" / "fog").mkdir(exist_ok=True)
    for words, said in (
        (["--imagenet-c", "some"], "lacks 14 of the 15 corruptions"),
        (["--imagenet-a", "some"], "no image under some"),
        ([], "nothing to measure on"),
        (["--imagenet-a", "some", "--severities", "1"], "go with --corrupt"),
        (["--corrupt", "config", "--baseline", "word"], "--baseline takes CONFIG CHECKPOINT"),
    ):
        with pytest.raises(UserError, match=said):
            call("lenet.py", "good.pth", *words, "--out", "wrong")
    for wnid in subset_wnids("imagenet_a"):
        (place / "a" / wnid).mkdir(parents=True)
        Image.new("L", (32, 32)).save(place / "a" / wnid / "0.png")
    with pytest.raises(UserError, match="ImageNet's 1,000 classes and this one has 10 outputs"):
        call("lenet.py", "good.pth", "--imagenet-a", "a", "--out", "wrong")


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the ImageNet sample is not here")
def test_a_published_format_on_real_images(place: Path) -> None:
    """A ViT of timm with its head, told by its file; 100 classes by their WordNet ids."""
    pytest.importorskip("imagecorruptions")
    import timm

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=1000)
    torch.save(model.state_dict(), place / "vit.pth")
    (place / "plain.py").write_text('"""The view of ImageNet: 224 pixels out of 256."""\n')
    words = ["plain.py", "vit.pth", "--corrupt", SAMPLE, "--out", "vit"]
    words += ["--corruptions", "jpeg_compression", "--severities", "1"]
    measured = call(*words, workers=2)["metrics"]["corrupted"]
    classes = [path for path in SAMPLE.iterdir() if path.is_dir()]
    assert measured["classes"] == len(classes) and measured["images"] >= len(classes)
    # as by hand: timm's own forward, images by wnid
    from timm.data import ImageNetInfo

    from msn_mm.datasets import EvalCrop

    wnids = ImageNetInfo("imagenet-1k").label_names()
    view = EvalCrop(256, 224)
    known = msn_mm.load_classifier("vit.pth")
    mean, std = torch.tensor(known.mean), torch.tensor(known.std)
    right = 0
    model.eval()
    for path in sorted(SAMPLE.rglob("*.JPEG")):
        pixels = view({"img_path": str(path)}).float()[None] / 255
        with torch.no_grad():
            logits = model((pixels - mean[:, None, None]) / std[:, None, None])
        right += wnids[int(logits.argmax())] == path.parent.name
    assert measured["clean_error"] == pytest.approx(100 - 100 * right / measured["images"])
