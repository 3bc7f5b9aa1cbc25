"""Training on a folder of files that are damaged, hostile or merely rare."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.runner import Runner
from PIL import Image

from msn_mm.datasets import UnreadableImageError
from msn_mm.datasets.decode import printable, read_image
from msn_mm.engine.launch import build_runner, train
from msn_mm.engine.summary import report_training
from msn_mm.errors import UserError
from tests.helpers import tiny_digits
from tests.memory import peak, start_peak
from tests.mutated_images import KINDS, READABLE, UNREADABLE, write_mutated


def runner_on(images: Path, work_dir: Path, max_bad_fraction: float = 0.05) -> Runner:
    """A tiny MSN on a folder of images, two epochs."""
    cfg = tiny_digits(**{"global_batch_size": 20, "base_batch_size": 20})
    cfg.train_dataloader.dataset.dataset = dict(type="ImageFolder", data_root=str(images))
    cfg.train_cfg.max_epochs = 2
    next(h for h in cfg.custom_hooks if h["type"] == "UnreadableImagesHook")["max_bad_fraction"] = (
        max_bad_fraction
    )
    return build_runner(cfg, work_dir=work_dir)


def bad_ones(paths: list[str]) -> set[str]:
    bad = set()
    for path in paths:
        try:
            read_image(path)
        except UnreadableImageError as error:
            assert error.path == printable(path) and "\n" not in str(error)
            bad.add(path)
    return bad


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_training_survives_and_names_each_bad_file_once(tmp_path: Path, count: int) -> None:
    kinds = write_mutated(tmp_path / "images", count)
    paths = [path for of_kind in kinds.values() for path in of_kind]
    bad = bad_ones(paths)
    for kind in READABLE:
        assert not bad & set(kinds[kind]), kind
    for kind in UNREADABLE:
        assert bad >= set(kinds[kind]), kind
    damaged = {path for kind in ("cut", "flipped bits", "zero bytes") for path in kinds[kind]}
    assert len(damaged & bad) > len(damaged) / 3

    runner = runner_on(tmp_path / "images", tmp_path / "work", max_bad_fraction=0.9)
    before = start_peak()
    train(runner)
    # Nothing here is large, whatever the files say.
    assert peak() - before < 200
    assert runner.iter == 2 * count // 20
    log = next((tmp_path / "work").rglob("*.log")).read_text(encoding="utf-8")
    told = re.findall(r"unreadable image (.*?): ", log)
    assert sorted(told) == sorted(printable(path) for path in bad)

    table = report_training(runner, Path("tiny.py"), {}, 1.0)
    metrics = json.loads((tmp_path / "work" / "results.json").read_text())["metrics"]
    assert metrics["unreadable_files"] == len(bad) and metrics["skipped_steps"] == 0
    # Two epochs meet each bad file twice, and more often as a replacement.
    assert metrics["unreadable_images"] >= 2 * len(bad)
    assert re.search(rf"unreadable_files +{len(bad)}\n", table)


def test_beyond_the_limit_one_line_ends_the_run(tmp_path: Path) -> None:
    write_mutated(tmp_path / "images", 10 * len(KINDS))
    with pytest.raises(UserError, match=r"images \(\d+\.\d %\) .* more than the 5 % .* max_bad_fr"):
        train(runner_on(tmp_path / "images", tmp_path / "work"))


LARGE = """
import sys
from msn_mm.datasets.decode import UnreadableImageError, read_image
from tests.memory import peak, start_peak
before = start_peak()
try:
    shape = read_image(sys.argv[1]).shape
except UnreadableImageError as error:
    shape = error.reason
print(shape, round(peak() - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode", "side", "shape", "limit"),
    [
        ("a.png", "RGB", 9_900, (4950, 4950, 3), 800),
        ("a.png", "RGB", 10_100, "more than the 100 million", 50),
        ("a.tif", "I;16", 9_900, (4950, 4950, 3), 800),
        ("a.jpg", "RGB", 13_000, (3250, 3250, 3), 400),
        ("a.jpg", "RGB", 14_000, "exceeds limit", 50),
    ],
)
def test_memory_of_the_largest_images(tmp_path, name, mode, side, shape, limit) -> None:
    Image.new(mode, (side, side)).save(tmp_path / name)
    out = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / name)], capture_output=True, text=True
    ).stdout.strip()
    said, _, mebibytes = out.rpartition(" ")
    assert (said == str(shape)) if isinstance(shape, tuple) else shape in said, out
    assert int(mebibytes) < limit, out
