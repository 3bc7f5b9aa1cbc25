"""``msn-mm pretrain``: from a folder of images to an encoder that msn-mm fit takes."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from msn_mm.__main__ import main
from msn_mm.auto_pretraining import running, speed
from msn_mm.auto_pretraining.record import read_record
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.engine.launch import build_runner, load_config
from msn_mm.errors import UserError
from tests.helpers import assert_same
from tests.test_resume_signals import Signal

ROOT = Path(__file__).resolve().parent.parent
COUNT, LABELLED = 160, 5


def write_digits(root: Path, count: int = COUNT, labelled: int = LABELLED) -> None:
    """8 x 8 scans as PNG files; the first few of each class are named in labels.csv."""
    digits = load_digits()
    (root / "images").mkdir(parents=True)
    (root / "asked").mkdir()
    rows, seen = [], [0] * 10
    for i, (scan, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        held_out = i >= len(digits.images) - 500
        if i < count or held_out:
            folder = "asked" if held_out else "images"
            Image.fromarray((scan * 15).astype(np.uint8)).save(root / folder / f"{i:04d}.png")
        if i < count and seen[label] < labelled:
            seen[label] += 1
            rows.append((f"{i:04d}.png", f"digit {label}"))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training that is over; its length is that of a test."""
    root = tmp_path_factory.mktemp("pretrain")
    write_digits(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(speed, "_MOST", 3)
        assert main(WORDS) == 0
    return root


WORDS = ["pretrain", "images", "--labels", "labels.csv", "--hours", "0.0015", "--out", "run"]


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(speed, "_MOST", 3)


def losses(directory: Path) -> list[float]:
    (file,) = directory.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_the_same_command_says_that_it_is_finished(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    said = capsys.readouterr().out
    assert "the training in run is finished" in said and "Epoch(train)" not in said
    assert "next: msn-mm fit labels.csv --images images --checkpoint run --out run/class" in said


def test_the_next_command_and_predict_go_on(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    main(WORDS)
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("next: "))
    words = shlex.split(line.removeprefix("next: msn-mm "))
    assert main([*words, "--workers", "0", "--lambd", "0.008"]) == 0
    assert "50 labelled images of 10 classes" in capsys.readouterr().out
    assert main(["predict", "run/classifier.pth", "asked", "--workers", "0"]) == 0
    right = _share_right(Path("predictions.csv"))
    assert right > 0.15  # by chance 0.1; how long it trains depends on the machine


def _share_right(predictions: Path) -> float:
    truth = load_digits().target
    with predictions.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    named = [f"digit {truth[int(row['path'].removesuffix('.png'))]}" for row in rows]
    return float(np.mean([row["label"] == name for row, name in zip(rows, named, strict=True)]))


def test_results_and_record() -> None:
    results = json.loads(Path("run/results.json").read_text())
    assert results["tool"] == "msn-mm pretrain" and results["metrics"]["few_labels/top1"] > 10
    record = read_record(Path("run"))
    assert record is not None and record.images == COUNT
    assert record.finished["epochs"] == results["settings"]["epochs"]
    assert record.finished["reason"] == results["settings"]["stopped_early"]


def test_an_expert_gets_the_same_training_from_the_config() -> None:
    train = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    assert train(["run/pretrain.py", "--out", "expert"]) == 0
    assert losses(Path("expert")) == losses(Path("run")) != []
    (newest,) = {max(_epochs(Path(out))).name for out in ("run", "expert")}
    one, other = (torch.load(Path(out, newest), weights_only=True) for out in ("run", "expert"))
    assert_same(one["state_dict"], other["state_dict"])
    text = Path("run/pretrain.py").read_text()
    assert text.startswith('"""Chosen by msn-mm pretrain') and "encoder: " in text
    cfg = load_config("run/pretrain.py")
    assert Path(cfg.data_root).is_absolute() and cfg.model.backbone.in_chans == 1
    assert cfg.train_dataloader.dataset.transform.channels == 1
    assert len(cfg.model.data_preprocessor.mean) == 1


def _epochs(out: Path) -> list[Path]:
    return sorted(out.glob("epoch_*.pth"), key=lambda path: int(path.stem[6:]))


def test_a_stopped_run_tells_its_own_way_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(*args: Any, **kwargs: Any) -> Any:
        runner = build_runner(*args, **kwargs)
        runner.register_hook(Signal(signal.SIGTERM, 1))
        return runner

    monkeypatch.setattr(running, "build_runner", signalled)
    assert main([*WORDS, "--out", str(tmp_path / "stopped")]) == 128 + signal.SIGTERM
    (line,) = {x for x in capsys.readouterr().out.splitlines() if x.startswith("SIGTERM: ")}
    assert line.endswith("; go on by the same command") and "--resume" not in line


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cut"
    shutil.copytree("run", out)
    newest = _epochs(out)[-1]
    whole = torch.load(newest, weights_only=True)["state_dict"]
    newest.unlink()
    (before := torch.load(_epochs(out)[-1], weights_only=True))["meta"]["seconds"] += 7200
    torch.save(before, _epochs(out)[-1])
    for log in out.glob("2*"):
        shutil.rmtree(log)
    content = json.loads((out / "pretrain.json").read_text())
    (out / "pretrain.json").write_text(json.dumps({**content, "finished": {}}))
    words = [*WORDS[:-1], str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"going on with the training in {out}" in said
    # the time of all of it is what was predicted
    assert "epochs in 2 h (predicted: " in said
    record = read_record(out)
    assert record is not None and 7200 < record.finished["seconds"] < 7800
    assert_same(torch.load(newest, weights_only=True)["state_dict"], whole)
    # a checkpoint that does not tell the time leaves nothing to compare
    end = torch.load(newest, weights_only=True)
    torch.save({**end, "meta": {**end["meta"], "seconds": None}}, newest)
    # an expert's change is taken, and said
    with (out / "pretrain.py").open("a") as file:
        file.write("\n# changed\n")
    (out / "pretrain.json").write_text(json.dumps({**content, "finished": {}}))
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "pretrain.py was changed since" in said and "predicted" not in said
    (out / "pretrain.json").write_text(json.dumps({**content, "finished": {}}))
    (out / "pretrain.py").unlink()
    with pytest.raises(UserError, match="no such config"):
        main(words)


def test_another_command_is_refused_in_one_line(tmp_path: Path) -> None:
    for more, line in {
        ("--hours", "8"): r"run was begun with --hours 0.0015 and now --hours 8.0: give the same",
        ("--lr", "0.1"): r"begun with no --lr and now --lr 0.1",
        ("--mirror", "yes"): r"no --mirror and now --mirror yes",
    }.items():
        with pytest.raises(UserError, match=line):
            main([*WORDS, *more])
    Image.new("L", (8, 8)).save("images/new.png")
    try:
        with pytest.raises(UserError, match=r"begun with 160 images and the folder now has 161"):
            main(WORDS)
    finally:
        Path("images/new.png").unlink()
    Path("images/0150.png").rename("images/0150b.png")
    try:
        with pytest.raises(UserError, match=r"160 images and the folder now has 160 others"):
            main(WORDS)
    finally:
        Path("images/0150b.png").rename("images/0150.png")
    (tmp_path / "epoch_3.pth").touch()
    with pytest.raises(UserError, match="holds checkpoints of another training"):
        main([*WORDS[:-1], str(tmp_path)])
    (tmp_path / "pretrain.json").write_text("{")
    with pytest.raises(UserError, match=r"pretrain\.json cannot be read"):
        main([*WORDS[:-1], str(tmp_path)])


def test_a_dry_run_tells_all_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "dry"
    assert main(["pretrain", "images", "--dry-run", "--hours", "100", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for name in ("machine", "images", "encoder", "views", "batch", "epochs", "learning rate"):
        assert re.search(rf"^{name} +\S", said, re.MULTILINE), name
    assert re.search(r"^time +about \d+ \w+ .*between", said, re.MULTILINE)
    assert "160 images, grey, PNG; shorter side 8 pixels" in said
    assert "note: 160 images are few to learn from scratch: --from" in said
    assert not out.exists() and "Epoch(train)" not in said


def test_a_checkpoint_is_gone_on_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    newest = _epochs(Path("run"))[-1]
    words = ["pretrain", "images", "--hours", "0.0005", "--out", str(tmp_path), "--from"]
    assert main([*words, "run"]) == 0
    said = capsys.readouterr().out
    assert "the checkpoint's" in said and "initialised: nothing" in said
    cfg = load_config(tmp_path / "pretrain.py")
    assert cfg.load_from == str(newest.resolve())
    saved = torch.load(newest, weights_only=True)["state_dict"]
    assert len(saved["head.prototypes"]) == cfg.model.head.num_prototypes
    small = ResNetArchitecture((1, 1, 1, 1), "basic", base_channels=8, stem_channels=8)
    torch.save(small.build().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"--from: '.*resnet\.pth' holds a ResNet.*a ViT's"):
        main([*words[:4], "--out", str(tmp_path / "x"), "--from", str(tmp_path / "resnet.pth")])


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("path,label\ngone.png,a\n0001.png,b", r"no image 'images/gone\.png'"),
        ("path,label\n0001.png,a", "all 1 labelled images"),
    ],
)
def test_labels_that_are_no_use(rows: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(rows)
    words: list[Any] = ["pretrain", "images", "--labels", tmp_path / "labels.csv"]
    with pytest.raises(UserError, match=line):
        main([*map(str, words), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
