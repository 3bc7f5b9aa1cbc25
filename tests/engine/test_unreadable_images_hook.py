"""Damaged images in a real run: named once, counted, and too many refused."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from msn_mm.engine.hooks import unreadable_images_hook as module
from msn_mm.engine.hooks.unreadable_images_hook import UnreadableImagesHook
from msn_mm.errors import UserError


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


class _Toy(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs: Any, data_samples: Any, mode: str) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * inputs["target"]["images"].float().mean()}


def folder(root: Path, total: int, bad: int) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir()
    for k in range(total):
        path = root / f"{k:03}.png"
        if k < bad:
            path.write_text("damaged")
        else:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


def run(root: Path, work: Path, epochs: int = 2, **options: Any) -> Runner:
    runner = Runner(
        model=_Toy(),
        work_dir=str(work),
        train_dataloader={
            "batch_size": 10,
            "num_workers": 0,
            "sampler": {"type": "KeyedSampler"},
            "collate_fn": {"type": "multi_view_collate"},
            "dataset": {
                "type": "MultiViewDataset",
                "dataset": {"type": "ImageFolder", "data_root": str(root)},
                "transform": {
                    "type": "MultiCrop",
                    "views": {"target": {"size": 4, "scale": (0.5, 1.0)}},
                },
            },
        },
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        custom_hooks=[UnreadableImagesHook(**options)],
        default_hooks={"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 5}},
        randomness={"seed": 0},
        experiment_name=work.name,
        default_scope="msn_mm",
        log_level="INFO",
    )
    runner.train()
    return runner


def hook_of(runner: Runner) -> UnreadableImagesHook:
    return next(h for h in runner.hooks if isinstance(h, UnreadableImagesHook))


def test_bad_files_are_named_once_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", 100, 4)
    runner = run(root, tmp_path / "work")
    log = next((tmp_path / "work").rglob("*.log")).read_text()
    for k in range(4):
        assert log.count(f"{k:03}.png: not an image") == 1
    hook = hook_of(runner)
    # Two epochs, each meets the four files (or more: a replacement may be bad).
    assert hook.total >= 8 and len(hook.named) == 4
    history = runner.message_hub.get_scalar("train/unreadable_images")
    assert history.current() == hook.total
    assert "unreadable_images: " in log


def test_the_run_fails_above_the_share(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", 100, 8)
    with pytest.raises(UserError, match=r"more than the 5 % allowed; the first is .*not an image"):
        run(root, tmp_path / "work", epochs=1)
    run(root, tmp_path / "work2", epochs=1, max_bad_fraction=0.2)


class _Recorder:
    """What the hook uses of a runner."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("test")
        self.message_hub = type("Hub", (), {"update_scalar": lambda *_: None})()


def data(seen: int, bad: int, start: int = 0) -> dict[str, Any]:
    named = [(f"{start + k}.jpg", "why") for k in range(bad)]
    return {"data_samples": {"index": torch.zeros(seen), "unreadable": named}}


def test_within_an_epoch_only_a_share_beyond_doubt_stops_the_run() -> None:
    hook = UnreadableImagesHook()
    runner: Any = _Recorder()
    hook.before_train_epoch(runner)
    # 12 of 200 are more than 5 %, but a data set with 4 % often shows as many.
    hook.after_train_iter(runner, 0, data(188, 12))
    with pytest.raises(UserError, match=r"52 of 260 images \(20.0 %\)"):
        hook.after_train_iter(runner, 1, data(20, 40, 12))


def test_a_file_is_named_at_its_first_appearance_only(caplog: pytest.LogCaptureFixture) -> None:
    hook = UnreadableImagesHook(max_bad_fraction=1.0)
    runner: Any = _Recorder()
    hook.before_train_epoch(runner)
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            hook.after_train_iter(runner, step, data(8, 2))
    assert len(caplog.messages) == 2 and "unreadable image 0.jpg: why" in caplog.messages[0]
    assert hook.total == 6


def test_few_images_are_judged_at_the_end_of_the_epoch() -> None:
    hook = UnreadableImagesHook()
    runner: Any = _Recorder()
    hook.before_train_epoch(runner)
    hook.after_train_iter(runner, 0, data(8, 2))
    with pytest.raises(UserError, match="2 of 10 images"):
        hook.after_train_epoch(runner)


def test_each_epoch_is_judged_by_itself() -> None:
    hook = UnreadableImagesHook(max_bad_fraction=0.5)
    runner: Any = _Recorder()
    hook.before_train_epoch(runner)
    hook.after_train_iter(runner, 0, data(100, 0))
    hook.after_train_epoch(runner)
    hook.before_train_epoch(runner)
    hook.after_train_iter(runner, 0, data(2, 8))
    with pytest.raises(UserError, match="8 of 10"):
        hook.after_train_epoch(runner)


def test_counts_and_names_come_from_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[Any] = []

    def gather(part: Any) -> list[Any]:
        gathered.append(part)
        return [part, (10, [("other.jpg", "why")])]

    monkeypatch.setattr(module, "get_world_size", lambda: 2)
    monkeypatch.setattr(module, "all_gather_object", gather)
    hook = UnreadableImagesHook(interval=2, max_bad_fraction=0.5)
    runner: Any = _Recorder()
    hook.before_train_epoch(runner)
    hook.after_train_iter(runner, 0, data(9, 1))
    assert not gathered
    hook.after_train_iter(runner, 1, data(10, 0))
    assert len(gathered) == 1
    assert (hook.seen, hook.bad, set(hook.named)) == (30, 2, {"0.jpg", "other.jpg"})


def test_counts_and_names_go_on_after_a_resume(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "get_world_size", lambda: 2)
    monkeypatch.setattr(module, "all_gather_object", lambda part: [part])
    runner: Any = _Recorder()
    hook = UnreadableImagesHook(interval=2, max_bad_fraction=0.5)
    for step in range(3):
        hook.after_train_iter(runner, step, data(9, 1, start=step))
    resumed = UnreadableImagesHook(interval=2, max_bad_fraction=0.5)
    resumed.before_train_epoch(runner)
    resumed.load_state_dict(copy.deepcopy(hook.state_dict()))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        resumed.after_train_iter(runner, 3, data(9, 1))
    assert (resumed.seen, resumed.bad, resumed.total) == (40, 4, 4)
    assert list(resumed.named) == ["0.jpg", "1.jpg", "2.jpg"]
    assert [text.split(":")[0] for text in caplog.messages] == ["unreadable image 2.jpg"]


@pytest.mark.parametrize("arguments", [{"max_bad_fraction": 1.5}, {"interval": 0}])
def test_impossible_settings(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        UnreadableImagesHook(**arguments)
