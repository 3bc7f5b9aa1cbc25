"""The four commands of ``msn-mm`` by their own defaults on real images, start to end."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msn_mm.datasets import Digits
from msn_mm.evaluation.features import center_and_normalize
from msn_mm.evaluation.logistic_regression import fit_logistic_regression
from tests.helpers import msn_mm_process

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "cifar10_sample"
LABELLED = 5

pytestmark = pytest.mark.slow


def journey(images: Path, asked: Path, hours: float, truth: dict[str, str]) -> float:
    """Pre-train, take the next command it names, predict; the share that is right."""
    said = msn_mm_process(
        "pretrain", str(images), "--labels", "labels.csv", "--hours", str(hours), timeout=3600
    )
    assert "going on" not in said and "(predicted: " in said
    results = json.loads(Path("work_dirs/pretrain/results.json").read_text())
    assert results["metrics"]["few_labels/top1"] > 0
    (following,) = (line for line in said.splitlines() if line.startswith("next: "))
    msn_mm_process(*shlex.split(following.removeprefix("next: msn-mm ")))
    return share_right(Path("work_dirs/pretrain/classifier.pth"), asked, truth)


def share_right(classifier: Path, asked: Path, truth: dict[str, str]) -> float:
    """Predict every image of a folder; the share that is right."""
    msn_mm_process("predict", str(classifier), str(asked))
    with Path("predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(truth)
    return float(np.mean([row["label"] == truth[row["path"]] for row in rows]))


def with_suggested_labels(
    images: Path, asked: Path, label_of: dict[str, str], truth: dict[str, str]
) -> float:
    """Label the images that are suggested, as many as before, and predict; the share right."""
    number = LABELLED * len(set(label_of.values()))
    place = ["--checkpoint", "work_dirs/pretrain", "--out", "suggested"]
    msn_mm_process("label-suggest", str(images), "--number", str(number), *place)
    with Path("suggested/suggestions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == number and not any(row["label"] for row in rows)
    for row in rows:
        row["label"] = label_of[Path(row["path"]).as_posix()]
    with Path("suggested/suggestions.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    fit = ["suggested/suggestions.csv", "--images", str(images), "--out", "suggested/it.pth"]
    msn_mm_process("fit", *fit, "--checkpoint", "work_dirs/pretrain")
    return share_right(Path("suggested/it.pth"), asked, truth)


def write_labels(named: list[tuple[str, str]]) -> list[int]:
    """Write labels.csv of the first few of each class; their places in the list."""
    seen: Counter[str] = Counter()
    chosen = []
    with Path("labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for place, (name, label) in enumerate(named):
            if seen[label] < LABELLED:
                seen[label] += 1
                chosen.append(place)
                rows.writerow([name, label])
    return chosen


def raw_pixels(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    rows = [center_and_normalize(part.reshape(len(part), -1)) for part in (known, asked)]
    fitted = fit_logistic_regression(rows[0], labels, 0.0025)
    return fitted.classes[fitted.decision_function(rows[1]).argmax(axis=1)]


def test_digits_are_told_apart_better_than_by_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known, asked = Digits(split="pretrain"), Digits(split="test")
    truth, named = {}, []
    for folder, part in (("images", known), ("asked", asked)):
        Path(folder).mkdir()
        for i in range(len(part)):
            info = part.get_data_info(i)
            Image.fromarray(info["img"][..., 0]).save(f"{folder}/{i:04d}.png")
            entry = (f"{i:04d}.png", str(info["gt_label"]))
            if part is known:
                named.append(entry)
            else:
                truth[entry[0]] = entry[1]
    chosen = write_labels(named)
    right = journey(Path("images"), Path("asked"), 0.25, truth)
    pixels = [np.stack([part.get_data_info(i)["img"] for i in places])
              for part, places in ((known, chosen), (asked, range(len(asked))))]  # fmt: skip
    labels = np.array([int(named[place][1]) for place in chosen])
    found = raw_pixels(pixels[0], labels, pixels[1])
    by_pixels = np.mean([str(k) == truth[f"{i:04d}.png"] for i, k in enumerate(found)])
    suggested = with_suggested_labels(Path("images"), Path("asked"), dict(named), truth)
    print(f"pre-trained {right:.3f}, suggested labels {suggested:.3f}, raw pixels {by_pixels:.3f}")
    assert min(right, suggested) > by_pixels


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the CIFAR-10 sample is not here")
def test_photographs_start_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, test = SAMPLE / "train", SAMPLE / "test"
    named = [(path.relative_to(train).as_posix(), path.parent.name)
             for path in sorted(train.rglob("*.*"))]  # fmt: skip
    write_labels(named)
    truth = {path.relative_to(test).as_posix(): path.parent.name for path in test.rglob("*.*")}
    right = journey(train, test, 0.05, truth)
    suggested = with_suggested_labels(train, test, dict(named), truth)
    print(f"pre-trained {right:.3f}, suggested labels {suggested:.3f}")
    # five labels a class of ten; three minutes of training
    assert min(right, suggested) > 0.14
