"""A run that is stopped anywhere and resumed ends bitwise where the uninterrupted one ends."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import SequentialSampler
from toy_training import write_config

from msn_mm.engine.hook_state import hook_states, load_hook_states
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.random_state import random_state, set_random_state
from msn_mm.errors import UserError
from msn_mm.registry import DATA_SAMPLERS, HOOKS
from tests.helpers import run, tiny_digits

KEYED = "train_dataloader['sampler'] = dict(type='KeyedSampler', shuffle=True)\n"
CLOCKED = ("time", "data_time", "images_per_s", "eta")


class Killed(Exception):
    """Stands for the end of a process."""


class Kill(Hook):
    """End a run behind an iteration, once everything else has seen it."""

    priority = "LOWEST"

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.iterations:
            raise Killed


@HOOKS.register_module(force=True)
class DrawingHook(Hook):
    """Draws from every generator of the process at each step, and remembers a sum."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        value = random.random() + float(np.random.rand() + np.random.randn())  # noqa: NPY002
        self.drawn.append(value + float(torch.rand(())))
        runner.message_hub.update_scalar("train/drawn", self.drawn[-1])

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": list(self.drawn)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = list(state["drawn"])


@DATA_SAMPLERS.register_module(force=True)
class SequentialByItself(SequentialSampler):
    """A sampler that takes no epoch, so its order is known only by reading."""

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        super().__init__(dataset)


def unclocked(values: dict[Any, Any]) -> dict[Any, Any]:
    return {k: v for k, v in values.items() if str(k).split("/")[-1] not in CLOCKED}


def assert_same(one: Any, other: Any, name: str = "") -> None:
    """Compare what two checkpoints hold, to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        one, other = unclocked(one), unclocked(other)
        assert one.keys() == other.keys(), (name, one.keys() ^ other.keys())
        for key in one:
            assert_same(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{name}.{index}")
    else:
        assert one == other, name


def content(file: Path) -> dict[str, Any]:
    """What a checkpoint holds, but for what names the run, its files and its time."""
    loaded = torch.load(file, weights_only=True)
    loaded.pop("meta")
    for hub in ("runtime_info", "resumed_keys"):
        loaded["message_hub"].pop(hub)
    return loaded


def toy(folder: Path, options: dict[str, Any], extra: str = "") -> Any:
    config = write_config(folder, "custom_hooks.append(dict(type='DrawingHook'))\n" + extra)
    return load_config(config, {"train_cfg.max_epochs": 3, **options})


def killed(cfg: Any, out: Path, after: int) -> None:
    runner = build_runner(cfg, work_dir=out)
    runner.register_hook(Kill(after))
    with pytest.raises(Killed):
        train(runner)


@pytest.mark.parametrize("sampler", ["", KEYED])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_within_an_epoch_bitwise(tmp_path: Path, sampler: str, workers: int) -> None:
    options = {"default_hooks.checkpoint.every_iters": 1, "train_dataloader.num_workers": workers}
    cfg = toy(tmp_path, options, sampler)
    train(build_runner(cfg, work_dir=tmp_path / "whole"))
    # Four iterations an epoch: within the second, at its end, and behind its last batch.
    for stop in (6, 8):
        out = tmp_path / f"stop{stop}"
        killed(cfg, out, stop)
        assert (out / f"iter_{stop if stop % 4 else stop - 1}.pth").is_file()
        torch.manual_seed(99)
        train(build_runner(cfg, work_dir=out, resume=True))
        assert_same(content(tmp_path / "whole/epoch_3.pth"), content(out / "epoch_3.pth"))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"model.width": 9}, r"layers\.0\.weight is \(8, 8\) there and \(9, 8\) here"),
        ({"model.bias": True}, "it lacks 1 weights such as bias"),
    ],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_another_model_is_not_resumed(
    tmp_path: Path, option: dict[str, Any], told: str, momentum: float
) -> None:
    """Not even where the optimizer has nothing that would show it."""
    sgd = {"optim_wrapper.optimizer": dict(_delete_=True, type="SGD", lr=0.01, momentum=momentum)}
    train(build_runner(toy(tmp_path, sgd), work_dir=tmp_path / "out"))
    more = {**sgd, "train_cfg.max_epochs": 4}
    other = toy(tmp_path, {**more, **option})
    with pytest.raises(UserError, match=rf"epoch_3\.pth' belongs to another model: {told}; resum"):
        train(build_runner(other, work_dir=tmp_path / "out", resume=True))
    train(build_runner(toy(tmp_path, more), work_dir=tmp_path / "out", resume=True))


def test_workers_that_stay_resume_bitwise_at_an_epoch_s_end(tmp_path: Path) -> None:
    """They start once, not each epoch, so their start must not move the generators."""
    options = {
        "train_dataloader.num_workers": 1,
        "train_dataloader.persistent_workers": True,
        "default_hooks.checkpoint.max_keep_ckpts": -1,
    }
    cfg = toy(tmp_path, options, KEYED)
    whole, out = tmp_path / "whole", tmp_path / "out"
    train(build_runner(cfg, work_dir=whole))
    train(build_runner(cfg, work_dir=out, resume=whole / "epoch_1.pth"))
    assert_same(content(whole / "epoch_3.pth"), content(out / "epoch_3.pth"))


def log_of(out: Path) -> str:
    return "".join(sorted(path.read_text() for path in out.rglob("*.log")))


class Reads:
    """Counts which images a data set hands out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import toy_training

        self.seen: list[int] = []
        original = toy_training.ToyData.__getitem__

        def getitem(data: Any, index: int) -> Any:
            self.seen.append(int(index))
            return original(data, index)

        monkeypatch.setattr(toy_training.ToyData, "__getitem__", getitem)


@pytest.mark.parametrize("sampler", ["", KEYED])
def test_skipped_images_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    cfg = toy(tmp_path, {"default_hooks.checkpoint.every_iters": 1}, sampler)
    reads = Reads(monkeypatch)
    killed(cfg, tmp_path / "out", 6)
    first = list(reads.seen)
    reads.seen.clear()
    train(build_runner(cfg, work_dir=tmp_path / "out", resume=True))
    # 16 images in batches of 4: two batches of the second epoch are left, then a whole one.
    assert len(first) == 24 and len(reads.seen) == 8 + 16
    assert sorted(first[16:] + reads.seen[:8]) == list(range(16))
    assert sorted(reads.seen[8:]) == list(range(16))


def test_an_order_that_nobody_knows_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = "train_dataloader['sampler'] = dict(type='SequentialByItself')\n"
    cfg = toy(tmp_path, {"default_hooks.checkpoint.every_iters": 1}, extra)
    train(build_runner(cfg, work_dir=tmp_path / "whole"))
    killed(cfg, tmp_path / "out", 6)
    reads = Reads(monkeypatch)
    train(build_runner(cfg, work_dir=tmp_path / "out", resume=True))
    assert "2 batches are read again" in log_of(tmp_path / "out")
    assert len(reads.seen) == 16 + 16
    assert_same(content(tmp_path / "whole/epoch_3.pth"), content(tmp_path / "out/epoch_3.pth"))


def test_msn_resumed_within_an_epoch_bitwise(tmp_path: Path) -> None:
    """Model, target, prototypes, optimizer, schedules, history and hooks of a real MSN."""
    options = {
        "default_hooks.checkpoint.every_iters": 1,
        "default_hooks.checkpoint.max_keep_iters": -1,
        "model.backbone.drop_path_rate": 0.2,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        "train_dataloader.num_workers": 2,
        "train_dataloader.persistent_workers": True,
        "accumulation": 2,
        "global_batch_size": 16,
    }
    cfg = tiny_digits(**options)
    cfg.custom_hooks[1].update(interval=4, window=4)
    cfg.val_evaluator.update(splits=2)
    run(cfg, tmp_path / "whole")
    files = {path.name for path in (tmp_path / "whole").glob("iter_*.pth")}
    # Eight iterations an epoch, the first of which is not saved; saves follow optimizer steps.
    assert files == {f"iter_{n}.pth" for n in (2, 4, 6, 8, 10, 12, 14)}
    out = tmp_path / "resumed"
    runner = run(cfg, out, resume=tmp_path / "whole/iter_6.pth")
    assert runner.iter == 16
    assert_same(content(tmp_path / "whole/epoch_2.pth"), content(out / "epoch_2.pth"))


def test_the_states_of_all_generators_return() -> None:
    before = random_state()
    values = (random.random(), np.random.randn(), torch.rand(()).item())  # noqa: NPY002
    set_random_state(before)
    assert values == (random.random(), np.random.randn(), torch.rand(()).item())  # noqa: NPY002


def test_hooks_of_one_class_keep_apart() -> None:
    one, two = DrawingHook(), DrawingHook()
    one.drawn, two.drawn = [1.0], [2.0]
    states = hook_states([one, Hook(), two])
    assert states == {"DrawingHook": {"drawn": [1.0]}, "DrawingHook_2": {"drawn": [2.0]}}
    three, four = DrawingHook(), DrawingHook()
    load_hook_states([three, four], states)
    assert (three.drawn, four.drawn) == ([1.0], [2.0])
