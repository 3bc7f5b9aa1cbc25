"""``msn-mm``: from a few labelled digits to predictions and ONNX, by its own commands."""

from __future__ import annotations

import configparser
import csv
import importlib
import io
import json
import os
import pickle
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import MISTAKES_DRIVER, tiny_digits
from PIL import Image
from scipy.stats import beta
from sklearn.datasets import load_sample_images

import msn_mm
from msn_mm.__main__ import find_commands, main
from msn_mm.datasets import Digits
from msn_mm.errors import UserError
from msn_mm.few_labels.calibration import probabilities
from msn_mm.few_labels.predictor_file import FORMAT, digest
from msn_mm.registry import MODELS
from msn_mm.utils.results import sha256

ROOT = Path(__file__).resolve().parent.parent
LABELLED, HELD_OUT = 5, 150


def run(*words: str | Path) -> None:
    argv = [str(word) for word in words]
    assert main([*argv, *([] if argv[0] == "export" else ["--workers", "0"])]) == 0


def table(path: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG files, 5 labelled a class, an untrained encoder, and what fit makes of them."""
    root = tmp_path_factory.mktemp("journey")
    digits = Digits(split="pretrain")
    rows = []
    seen = dict.fromkeys(range(10), 0)
    for i in range(10 * LABELLED + HELD_OUT + 40):
        info = digits.get_data_info(i)
        label = info["gt_label"]
        part = "labelled" if seen[label] < LABELLED else "asked"
        seen[label] += 1
        file = root / part / f"digit {label}" / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(info["img"][..., 0]).save(file)
        if part == "labelled":
            rows.append((file.relative_to(root / "labelled").as_posix(), f"digit {label}"))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    cfg = tiny_digits()
    part = dict(type="ImageFolder", labels="folder")
    cfg.test_dataloader.dataset.support = dict(**part, data_root=str(root / "labelled"))
    cfg.test_dataloader.dataset.query = dict(**part, data_root=str(root / "asked"))
    cfg.dump(root / "tiny.py")
    torch.manual_seed(0)
    (root / "run").mkdir()
    content = {"state_dict": MODELS.build(cfg.model).state_dict(), "message_hub": {}}
    for epoch in (1, 2):
        meta = {"cfg": cfg.pretty_text, "epoch": epoch, "iter": 4 * epoch, "saved_at": float(epoch)}
        torch.save({**content, "meta": meta}, root / "run" / f"epoch_{epoch}.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run("fit", "labels.csv", "--images", "labelled", "--checkpoint", "run", "--lambd", "0.008")
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_predictions_are_those_of_tools_lowshot(capsys: pytest.CaptureFixture[str]) -> None:
    run("predict", "classifier.pth", "asked")
    rows = table("predictions.csv")
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    right = [row["label"] == row["path"].partition("/")[0] for row in rows]
    Path("subset.txt").write_text("".join(f"{row['path']}\n" for row in table("labels.csv")))
    lowshot = runpy.run_path(str(ROOT / "tools" / "lowshot.py"))["main"]
    words = ["tiny.py", "run/epoch_1.pth", "--subset-file", "subset.txt", "--lambd", "0.008"]
    assert lowshot([*words, "--workers", "0", "--no-cache", "--out", "lowshot"]) == 0
    measured = json.loads(Path("lowshot/results.json").read_text())["metrics"]
    (values,) = measured.values()
    assert values["top1"] == [pytest.approx(100 * np.mean(right))] and values["images"] == [50]
    said = capsys.readouterr().out
    assert re.search(rf"^all +{len(rows)} ", said, re.MULTILINE)


def test_fit_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("labels.csv", "--images", "labelled", "--lambd", "1", "--checkpoint", "run")
    run("fit", *words, "--out", "my classifier.pth")
    assert capsys.readouterr().out.endswith("\n  msn-mm predict 'my classifier.pth' IMAGES_DIR\n")


def test_results_tell_counts_and_intervals_by_another_formula() -> None:
    results = json.loads(Path("classifier.json").read_text())
    found = results["metrics"]["estimate"]
    assert results["tool"] == "msn-mm fit" and results["checkpoint_sha256"] == sha256(
        Path("run/epoch_2.pth")
    )
    assert sum(one["right"] for one in found["by_class"].values()) == found["overall"]["right"]
    for one in [found["overall"], *found["by_class"].values()]:
        k, n = one["right"], one["images"]
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        assert (one["low"], one["high"]) == pytest.approx((100 * low, 100 * high))
        assert one["accuracy"] == pytest.approx(100 * k / n)
    assert results["metrics"]["lambd_from"] == "given" and found["lambdas"] == [0.008] * 5


def test_the_report_is_honest(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("labels.csv", "--images", "labelled", "--checkpoint", "run/epoch_1.pth")
    run("fit", *words, "--out", "chosen.pth")
    said = " ".join(capsys.readouterr().out.split())
    found = json.loads(Path("chosen.json").read_text())["metrics"]["estimate"]
    assert f"{found['overall']['right']} of 50 were right" in said
    low, high = (f"{found['overall'][end]:.0f}%" for end in ("low", "high"))
    assert f"expect between {low} and {high}" in said
    assert "For 10 of 10 classes the labels are too few to tell" in said
    # each fold chooses for itself
    assert len(found["lambdas"]) == 5 and found["lambdas_from"] == "cross-validation"


@pytest.mark.parametrize(("count", "says"), [(1, "cannot be told"), (2, "expect at least")])
def test_with_hardly_a_label(count: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept: dict[str, int] = {}
    lines = ["path,label"]
    for row in table("labels.csv"):
        kept[row["label"]] = kept.get(row["label"], 0) + 1
        if kept[row["label"]] <= (count if row["label"] == "digit 3" else 3):
            lines.append(f"{row['path']},{row['label']}")
    Path("few.csv").write_text("\n".join(lines))
    words = ("few.csv", "--images", "labelled", "--checkpoint", "run")
    run("fit", *words, "--lambd", "0.008", "--out", "few.pth")
    said = " ".join(capsys.readouterr().out.split())
    metrics = json.loads(Path("few.json").read_text())["metrics"]
    assert says in said
    if count == 1:
        assert "'digit 3' has one label, so nothing can be held out" in said
        assert metrics["estimate"] is None and metrics["calibrated"] is False
        assert "were right" not in said
    else:
        assert metrics["estimate"]["is_low"] and "and 100%" not in said


def test_the_answer_is_the_same_whatever_the_batch_and_the_workers() -> None:
    main(["predict", "classifier.pth", "asked", "--out", "a.csv", "--batch-size", "7"])
    run("predict", "classifier.pth", "asked", "--out", "b.csv", "--batch-size", "64")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Digits, a labelled one, photographs, and files that are no images."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k, file in enumerate(sorted(Path("asked").rglob("*.png"))[::4]):
        shutil.copy(file, folder / f"digit{k:03d}.png")
    shutil.copy(sorted(Path("labelled").rglob("*.png"))[7], folder / "labelled.png")
    rng = np.random.default_rng(0)
    for k in range(30):
        photo = Image.fromarray(load_sample_images().images[k % 2]).convert("L")
        side = int(rng.integers(64, 200))
        x, y = (int(rng.integers(0, n - side)) for n in photo.size)
        photo.crop((x, y, x + side, y + side)).save(folder / f"photo{k:02d}.png")
    (folder / "broken.png").write_bytes((folder / "labelled.png").read_bytes()[:90])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no image")
    return folder


def test_unreadable_and_unknown_images(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("predict", "classifier.pth", mixed, "--out", "mixed.csv", "--batch-size", "2")
    rows = {row["path"]: row for row in table("mixed.csv")}
    assert list(rows) == sorted(path.name for path in mixed.iterdir())
    bad = {name: row for name, row in rows.items() if row["error"]}
    assert sorted(bad) == ["broken.png", "empty.jpg", "text.png"]
    for row in bad.values():
        assert not any(row[key] for key in ("label", "probability", "nearest", "unknown"))
    said = capsys.readouterr().out
    assert "3 files cannot be read, the first of them:" in said
    assert "  empty.jpg: empty file" in said
    copy = rows["labelled.png"]
    original = sorted(Path("labelled").rglob("*.png"))[7].relative_to("labelled")
    assert copy["nearest"] == original.as_posix()
    assert float(copy["similarity"]) == 1.0 and copy["unknown"] == "false"
    assert copy["nearest_label"] == copy["nearest"].partition("/")[0]
    flagged = {
        kind: [rows[n]["unknown"] == "true" for n in rows if n.startswith(kind)]
        for kind in ("digit", "photo")
    }
    # 5 % of known images are allowed for; this encoder has learnt nothing
    assert np.mean(flagged["digit"]) < 0.15 and np.mean(flagged["photo"]) > 0.9
    run("predict", "classifier.pth", mixed, "--out", "mixed.csv", "--unknown-rate", "0.01")
    assert {row["unknown"] for row in table("mixed.csv")} == {"false", ""}
    said = " ".join(capsys.readouterr().out.split())
    assert "No image will be flagged as unknown: at a rate of 1% that takes 99 labelled" in said


def test_parquet_holds_what_csv_holds(mixed: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run("predict", "classifier.pth", mixed, "--out", "mixed.csv")
    run("predict", "classifier.pth", mixed, "--out", "mixed.parquet")
    rows = parquet.read_table("mixed.parquet").to_pylist()
    for one, other in zip(table("mixed.csv"), rows, strict=True):
        assert list(one) == list(other)
        for key, value in other.items():
            if isinstance(value, bool):
                assert one[key] == str(value).lower()
            elif isinstance(value, float):
                assert one[key] == f"{value:.6f}"
            else:
                assert one[key] == (value or "")


def test_a_notebook_gets_the_same_and_calibration_helps() -> None:
    predictor = msn_mm.load_predictor("classifier.pth")
    found = predictor.predict("asked", workers=0)
    truth = np.array([predictor.classes.index(path.partition("/")[0]) for path in found.paths])
    assert found.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert (found.probabilities.argmax(axis=1) == found.labels).all()
    scores = np.log(found.probabilities) * predictor.content.temperature
    asked = np.arange(len(truth)), truth
    plain = -np.log(probabilities(scores, 1.0)[asked]).mean()
    assert -np.log(found.probabilities[asked]).mean() <= plain + 0.02


def test_onnx_computes_the_same(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    run("export", "classifier.pth", "--to", "onnx")
    session = onnxruntime.InferenceSession("classifier.onnx")
    told = {e.key: json.loads(e.value) for e in onnx.load("classifier.onnx").metadata_props}
    predictor = msn_mm.load_predictor("classifier.pth")
    assert told["classes"] == list(predictor.classes) == [f"digit {c}" for c in range(10)]
    assert told["view"] == predictor.content.view.settings()
    files = sorted(mixed.glob("digit*.png"))[:9] + sorted(mixed.glob("photo*.png"))[:4]
    views = torch.stack([predictor.content.view({"img_path": str(file)}) for file in files])
    expected = predictor.answer(predictor.encoder(views).numpy())
    for count in (1, 13):
        got, features = session.run(None, {"images": views[:count].numpy()})
        assert np.abs(got - expected.probabilities[:count]).max() < 1e-5
        assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(count), abs=1e-5)
    assert "images: uint8 (batch, 1, 32, 32)" in capsys.readouterr().out


def test_numbers_that_differ_are_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from msn_mm.few_labels import onnx_file

    monkeypatch.setattr(onnx_file, "write_graph", lambda *args: args[3].write_bytes(b"graph"))
    monkeypatch.setattr(onnx_file, "differences", lambda *_: [2e-5, 0.0])
    with pytest.raises(UserError, match=r"probabilities differ from torch's by .*; nothing"):
        run("export", "classifier.pth", "--to", "onnx", "--out", "other.onnx")
    assert not Path("other.onnx").exists() and not list(Path().glob(".*.onnx"))


def test_a_directory_s_newest_whole_checkpoint_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("run", tmp_path / "run")
    torn = (tmp_path / "run" / "epoch_2.pth").read_bytes()
    (tmp_path / "run" / "epoch_3.pth").write_bytes(torn[: len(torn) // 2])
    words = ("labels.csv", "--images", "labelled", "--lambd", "1", "--out", tmp_path / "c.pth")
    run("fit", *words, "--checkpoint", tmp_path / "run")
    said = capsys.readouterr().out
    assert "note: passing over epoch_3.pth" in said and "run/epoch_2.pth" in said
    # the config says the same as the checkpoint does, and a folder the same as the CSV
    words = ("labelled", "--lambd", "1", "--out", tmp_path / "d.pth", "--config", "tiny.py")
    run("fit", *words, "--checkpoint", tmp_path / "run" / "epoch_1.pth")
    one, other = (msn_mm.load_predictor(tmp_path / name).content for name in ("c.pth", "d.pth"))
    order = [one.paths.index(path) for path in other.paths]
    assert one.view.settings() == other.view.settings()
    assert torch.allclose(one.features[order], other.features, atol=1e-5)


def test_the_file_is_plain_data_and_tells_damage(tmp_path: Path) -> None:
    content = torch.load("classifier.pth", weights_only=True)
    assert content["format"] == FORMAT and len(content["digest"]) == 64
    assert content["about"]["metrics"]["estimate"]["overall"]["images"] == 50
    whole = Path("classifier.pth").read_bytes()
    bad = tmp_path / "bad.pth"

    def refused(line: str) -> None:
        with pytest.raises(UserError, match=line) as caught:
            msn_mm.load_predictor(bad)
        assert len(str(caught.value).splitlines()) == 1

    bad.write_bytes(whole[: len(whole) // 2])
    refused("is not a whole checkpoint: it is cut off")
    place = whole.find(content["weights"].numpy().tobytes()[:64])
    assert place > 0
    bad.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    refused("is damaged: it holds something else than when it was written")
    torch.save({"state_dict": {}}, bad)
    refused("is no classifier's file; msn-mm fit writes one")
    bad.write_bytes(pickle.dumps(print))
    refused("holds more than tensors and plain values|is not a whole checkpoint")

    def changed(**parts: Any) -> None:
        plain = {k: v for k, v in (content | parts).items() if k != "digest"}
        torch.save({**plain, "digest": digest(plain)}, bad)

    changed(version=2)
    refused("is of version 2 and this program reads 1")
    for parts in (
        {"weights": content["weights"][:-1]},
        {"weights": content["weights"] * float("nan")},
        {"labels": content["labels"] + 10},
        {"classes": ["a", "b"]},
        {"classes": "ab"},
        {"temperature": 0.0},
        {"view": {"resize": 10**6, "crop": 10**6}},
        {"view": {"size": 3}},
        {"similarities": None},
    ):
        changed(**parts)
        refused("is no whole classifier")
    changed(encoder={})
    refused(r"bad\.pth")
    told = json.loads(content["encoder_metadata"])
    told["backbone"]["checkpoint_path"] = "x"
    changed(encoder_metadata=json.dumps(told))
    refused("asks for 'checkpoint_path'")


CASES = {
    "fit gone.csv --checkpoint run": r"no such labels: 'gone\.csv'",
    "fit tiny.py --checkpoint run": r"must begin with the line 'path,label'",
    "fit labels.csv --checkpoint gone.pth": r"no such checkpoint: 'gone\.pth'",
    "fit labels.csv --checkpoint asked": r"directory 'asked' has no model\.safetensors",
    "fit labels.csv": "--checkpoint",
    "fit labels.csv --checkpoint none": "give --config",
    "fit labels.csv --checkpoint run --config msn_digit.py": "Did you mean 'configs/msn_dig",
    "fit labels.csv --checkpoint run --images gone": "--images: 'gone' is no directory",
    "fit labels.csv --checkpoint run --lambd 0": "--lambd",
    "fit labels.csv --checkpoint run --out x.onnx": r"--out: 'x\.onnx' must be .* ends in \.pth",
    "fit labels.csv --checkpoint run --out tiny.py/x.pth": "cannot write to --out .* is a file",
    "fit labels.csv --checkpoint run --cfg-options a=1": "give --config too",
    "fit labels.csv --checkpoint run --config tiny.py --arch heads=3": "leave --config",
    "fit labels.csv --checkpoint run/epoch_1.pth --out run/epoch_1.pth": (
        r"--out: 'run/epoch_1\.pth' is an input \(--checkpoint\) and would be written over; name an"
    ),
    "fit labels.csv --checkpoint run --out run/epoch_2.pth": r"'run/epoch_2\.pth' is an input",
    "fit in/labels.pth --checkpoint run --out in/labels.pth": r"is an input \(LABELS\)",
    "fit in/labels.json --checkpoint run --out in/labels.pth": r"'in/labels.json' is an input",
    "fit labels.csv --checkpoint in/hf --out in/hf/config.pth": r"'in/hf/config.json' is an input",
    "predict in/c.csv asked --out in/link.csv": r"'in/c\.csv' is an input \(FILE\)",
    "export in/c.onnx --to onnx": r"'in/c\.onnx' is an input \(FILE\)",
    "label-suggest asked --checkpoint run --labels in/out/results.json --out in/out": (
        r"results\.json' is an input \(--labels\)"
    ),
    "predict gone.pth asked": r"no such checkpoint: 'gone\.pth'",
    "predict classifier.pth gone": "IMAGES_DIR: data folder gone does not exist",
    "predict classifier.pth asked --out x.txt": r"must be .* ends in \.csv or \.parquet",
    "predict classifier.pth asked --unknown-rate 1": "--unknown-rate",
    "fit labels.csv --checkpoint run --seed 4294967296": "not a whole number from 0 to 2147483647",
    "label-suggest asked --checkpoint run --seed 2147483648": "--seed: '2147483648' is not a whole",
    "image-stats asked --seed 2147483648": "--seed: '2147483648' is not a whole",
    "pretrain asked --seed 2147483648": "--seed: '2147483648' is not a whole",
    "label-suggest gone --checkpoint run": "IMAGES_DIR: data folder gone does not exist",
    "label-suggest asked --checkpoint gone.pth": r"no such checkpoint: 'gone\.pth'",
    "label-suggest asked --checkpoint run --number 0": "--number",
    "label-suggest asked --checkpoint run --method best": "invalid choice: 'best'",
    "label-suggest asked --checkpoint run --labels gone.csv": r"no such labels: 'gone\.csv'",
    "label-suggest asked --checkpoint run --labels tiny.py": "must begin with the line 'path,lab",
    "label-suggest asked --checkpoint run --out tiny.py": "cannot write to --out .* is a file",
    "image-stats gone": "IMAGES_DIR: data folder gone does not exist",
    "image-stats asked --sample 0": "--sample",
    "image-stats asked --out x.csv": r"must be a file that ends in \.json",
    "export classifier.pth --to torch": "invalid choice: 'torch'",
    "export labels.csv --to onnx": r"'labels\.csv' is not a whole checkpoint",
    "export classifier.pth --to onnx --out x": r"must be a file that ends in \.onnx",
    "pretrain gone": "IMAGES_DIR: data folder gone does not exist",
    "pretrain labels.csv": "IMAGES_DIR: data folder labels.csv is a file",
    "pretrain asked --out tiny.py/x": "cannot write to --out tiny.py/x: tiny.py is a file",
    "pretrain asked --hours 0": "--hours",
    "pretrain asked --labels gone.csv": r"no such labels: 'gone\.csv'",
    "pretrain asked --labels tiny.py": "must begin with the line 'path,label'",
    "pretrain asked --from gone.pth": r"no such checkpoint: 'gone\.pth'",
    "pretrain asked --from labels.csv": r"'labels\.csv' is not a whole checkpoint",
    "pretrain asked --mirror maybe": "invalid choice: 'maybe'",
    "lable": "invalid choice: 'lable'",
    "label-sugest": r"'label-sugest' .*\. Did you mean 'label-suggest'\? \(see msn-mm",
    "": "COMMAND",
}


@pytest.fixture(scope="module")
def inputs(place: Path) -> dict[Path, bytes]:
    """Inputs that lie where an output might be asked for, and their content."""
    made = {name: "labels.csv" for name in ("labels.pth", "labels.json", "out/results.json")}
    made |= {"c.csv": "classifier.pth", "c.onnx": "classifier.pth"}
    made |= {"hf/config.json": "classifier.json", "hf/pytorch_model.bin": "run/epoch_1.pth"}
    for name, source in made.items():
        (place / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / source, place / "in" / name)
    (place / "in" / "link.csv").symlink_to("c.csv")
    files = [*(place / "in").rglob("*.*"), *(place / "run").iterdir()]
    return {file: file.read_bytes() for file in files}


def test_mistakes_and_help_come_before_anything_heavy_is_loaded(
    place: Path, inputs: dict[Path, bytes]
) -> None:
    helps = [["--help"], *([name, "--help"] for name in find_commands())]
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES_DRIVER, str(ROOT / "msn_mm" / "__main__.py")],
        input=json.dumps([*(case.split() for case in CASES), *helps]),
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert inputs == {file: file.read_bytes() for file in inputs}
    told = json.loads(done.stdout)
    for (case, line), (status, errors, output, heavy) in zip(CASES.items(), told, strict=False):
        assert status == 2 and re.search(line, errors), (case, errors)
        assert len(errors.splitlines()) == 1 and errors.startswith("error: "), (case, errors)
        assert not output and not heavy, (case, output, heavy)
    for words, (status, errors, output, heavy) in zip(helps, told[len(CASES) :], strict=True):
        assert status == 0 and not errors and not heavy
        assert output.startswith(f"usage: msn-mm {words[0] if len(words) > 1 else '[-h]'}")


def test_the_console_script_is_the_module() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    script = setup["options.entry_points"]["console_scripts"].strip()
    name, _, target = script.partition(" = ")
    module, _, function = target.partition(":")
    assert name == "msn-mm" and callable(getattr(importlib.import_module(module), function))
    assert list(find_commands()) == [
        "export",
        "fit",
        "image-stats",
        "label-suggest",
        "predict",
        "pretrain",
    ]
    for command in find_commands().values():
        assert command.HELP and command.__doc__


def test_a_labelled_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    shutil.copytree("labelled", tmp_path / "labelled")
    broken = next((tmp_path / "labelled" / "digit 4").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    words = (tmp_path / "labelled", "--checkpoint", "run", "--out", tmp_path / "c.pth")
    with pytest.raises(UserError, match=rf"{broken.name}.*mend or remove it"):
        run("fit", *words)
    assert not (tmp_path / "c.pth").exists()


def test_a_class_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    shutil.copytree("labelled", tmp_path / "labelled")
    raw = os.fsdecode(os.fsencode(tmp_path / "labelled") + b"/digit \xe9")
    try:
        (tmp_path / "labelled" / "digit 9").rename(raw)
    except OSError:
        pytest.skip("a file system of names in UTF-8")
    words = ("--checkpoint", "run", "--lambd", "1", "--out", tmp_path / "c.pth")
    run("fit", tmp_path / "labelled", *words)
    run("predict", tmp_path / "c.pth", tmp_path / "labelled", "--out", tmp_path / "p.csv")
    rows = table(tmp_path / "p.csv")
    assert "digit \\xe9" in {row["label"] for row in rows}
    own = next(row for row in rows if row["path"].startswith("digit \\xe9/"))
    assert own["nearest_label"] == "digit \\xe9" and own["nearest"] == own["path"]
