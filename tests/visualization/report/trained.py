"""A real training and its page, made once for all tests of the page."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import pytest
from helpers import run, tiny_digits

ROOT = Path(__file__).resolve().parents[3]


def tool(name: str, *words: str) -> int:
    """Run a tool in this process."""
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))["main"](list(words))


def train_twice(work_dir: Path) -> None:
    """Train MSN on a few digits for two epochs, and resume it for a third."""
    few = {
        f"{part}_dataloader.dataset.{side}.indices": count
        for part in ("val", "test")
        for side, count in (("support", 200), ("query", 60))
    }
    options = {**few, "train_cfg.val_interval": 1, "val_evaluator.splits": 2}
    options["default_hooks.logger.interval"] = 2
    options["default_hooks.checkpoint.interval"] = 1
    options["custom_hooks.1.interval"] = 2
    begun = time.time()
    run(tiny_digits(**options, **{"train_cfg.max_epochs": 2}), work_dir)
    time.sleep(max(0.0, 1.1 - (time.time() - begun)))  # a start is named by its second
    run(tiny_digits(**options), work_dir, resume=True)


def report(*words: str) -> int:
    """Run tools/report.py without data workers or a cache."""
    return tool("report", *words, "--no-cache", "--workers", "0", "--map", "pca")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a training that was resumed, and evaluations of it."""
    work_dir = tmp_path_factory.mktemp("runs") / "digits"
    train_twice(work_dir)
    config, checkpoint = str(work_dir / "msn_digits.py"), str(work_dir / "epoch_3.pth")
    common = ["--workers", "0", "--no-cache", "--out"]
    assert tool("knn", config, checkpoint, *common, str(work_dir / "knn")) == 0
    return work_dir
