"""Real trainings small enough for a test: MSN on a few real digits."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine.launch import build_runner, load_config

IMAGES = 64

# Runs a tool's main() on each case in one process, then tells what was loaded.
MISTAKES_DRIVER = """
import contextlib, io, json, runpy, sys
cases = json.load(sys.stdin)
main = runpy.run_path(sys.argv[1])["main"]
from msn_mm.utils.cli import run_tool
told = []
for words in cases:
    errors, output = io.StringIO(), io.StringIO()
    status = None
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        try:
            run_tool(main, words)
        except SystemExit as end:
            status = end.code
    heavy = sorted({"torch", "mmengine", "numpy", "timm", "scipy"} & set(sys.modules))
    told.append([status, errors.getvalue(), output.getvalue(), heavy])
print(json.dumps(told))
"""


def python_process(*words: object, cwd: Path | None = None, timeout: float = 900) -> str:
    """Run Python on words in a process of its own, which must succeed; what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def msn_mm_process(*words: str, timeout: float = 900) -> str:
    """Run ``msn-mm`` in a process of its own, which must succeed; what it printed."""
    return python_process("-m", "msn_mm", *words, timeout=timeout)


@contextmanager
def leaving_group() -> Iterator[None]:
    """End this process's group behind the block, also when it fails; a decorator too."""
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def tiny_digits(**options: Any) -> Config:
    """configs/msn_digits.py at tiny size: 64 images, batch 16, two blocks of width 24."""
    cfg = load_config("configs/msn_digits.py")
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dim": 24,
            "model.backbone.depth": 2,
            "model.head.hidden_dim": 32,
            "model.head.output_dim": 16,
            "model.head.num_prototypes": 8,
            "train_dataloader.dataset.dataset.indices": IMAGES,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "train_dataloader.dataset.transform.views.focal.num": 2,
            "global_batch_size": 16,
            "base_batch_size": 16,
            "train_cfg.max_epochs": 3,
            "train_cfg.val_interval": 1000,
            "visualizer.vis_backends": [dict(type="LocalVisBackend")],
        }
    )
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.2, begin=0, end=1, convert_to_iter_based=True),
        dict(type="CosineAnnealingLR", begin=1, convert_to_iter_based=True),
        cfg.param_scheduler[2],
    ]
    cfg.merge_from_dict(options)
    return cfg


class Watch(Hook):
    """Call a function after every training iteration."""

    priority = "LOWEST"

    def __init__(self, look: Callable[[Runner, dict], None]) -> None:
        self.look = look

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.look(runner, outputs)


def run(
    cfg: Config, work_dir: Path, look: Callable[[Runner, dict], None] | None = None, **launch: Any
) -> Runner:
    """Train and return the runner."""
    runner = build_runner(cfg, work_dir=work_dir, **launch)
    if look is not None:
        runner.register_hook(Watch(look))
    runner.train()
    return runner


def weights(runner: Runner) -> dict[str, torch.Tensor]:
    """A copy of the model's state."""
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def assert_same(one: Any, other: Any, name: str = "") -> None:
    """Assert that two contents are equal bitwise; ``name`` says where they are not."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            assert_same(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{name}.{index}")
    else:
        assert one == other, name


def save_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, name: str = "CIFAR10") -> Path:
    """Write a CIFAR data set with two random images a class and batch; no checksums."""
    from mmpretrain import datasets

    kind = getattr(datasets, name)
    classes, key = (10, "labels") if name == "CIFAR10" else (100, "fine_labels")
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, _ in kind.train_list + kind.test_list:
        content = {
            "data": rng.integers(0, 256, (2 * classes, 3072), dtype=np.uint8),
            key: [i % classes for i in range(2 * classes)],
        }
        (folder / file).write_bytes(pickle.dumps(content))
    meta = {kind.meta["key"]: [str(i) for i in range(classes)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(kind, files, [[file, None] for file, _ in getattr(kind, files)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    return root
