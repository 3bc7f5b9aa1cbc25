"""Exact resume with several processes, and signals as a machine sends them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_training import write_config

from msn_mm.engine.hooks import safe_checkpoint_hook as safe_module
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.stopped import TrainingStopped
from tests.helpers import leaving_group
from tests.test_resume import KEYED, DrawingHook, Reads, assert_same, content, log_of
from tests.two_processes import start_two

ROOT = Path(__file__).resolve().parent.parent
assert DrawingHook  # registered for the processes that import this module


class SignalOneRank(Hook):
    """Send one rank alone a signal, at different places of the two ranks' steps."""

    def __init__(self, rank: int, iterations: int) -> None:
        self.rank, self.iterations = rank, iterations

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.iterations and runner.rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)


class Clock(Hook):
    """A clock by which an iteration takes so many seconds."""

    def __init__(self, pace: float) -> None:
        self.now, self.pace = 0.0, pace

    def monotonic(self) -> float:
        return self.now

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        self.now += self.pace


def toy(folder: Path, **options: Any) -> Any:
    extra = KEYED + "custom_hooks.append(dict(type='DrawingHook'))\n"
    extra += "train_dataloader['dataset']['length'] = 32\n"
    config = write_config(folder, extra, name=f"toy{os.getpid()}.py")
    return load_config(config, {"train_cfg.max_epochs": 3, **options})


@leaving_group()
def two_ranks(rank: int, port: int, folder: str) -> None:
    """Whole, stopped and resumed runs of one of two processes."""
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
    )
    out = Path(folder)
    cfg = toy(out, randomness={"seed": 3, "diff_rank_seed": True})
    seen = {}
    for name in ("whole", "stopped", "resumed"):
        with pytest.MonkeyPatch.context() as patch:
            reads = Reads(patch)
            launch: dict[str, Any] = {"resume": True} if name == "resumed" else {}
            where = out / ("whole" if name == "whole" else "out")
            runner = build_runner(cfg, launcher="pytorch", work_dir=where, **launch)
            if name == "stopped":
                runner.register_hook(SignalOneRank(1, 10))
                with pytest.raises(TrainingStopped) as caught:
                    train(runner)
                seen["line"] = str(caught.value)
            else:
                train(runner)
        seen[name] = reads.seen
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(11.0 if rank == 0 else 0.0)
        patch.setattr(safe_module, "time", clock)
        waits: list[float] = []
        make = dist.new_group

        def new_group(*args: Any, timeout: timedelta, **kwargs: Any) -> Any:
            waits.append(timeout.total_seconds())
            return make(*args, timeout=timeout, **kwargs)

        patch.setattr(dist, "new_group", new_group)
        cfg.default_hooks.checkpoint.update(interval=100, every_minutes=1.0)
        cfg.merge_from_dict({"env_cfg.dist_cfg.timeout": 77})
        runner = build_runner(cfg, launcher="pytorch", work_dir=out / "clocked")
        runner.register_hook(clock)
        train(runner)
        seen["waits"] = waits
    # Four trainings have voted, one of them stopped by a signal: their groups are gone.
    seen["groups"] = len(dist.distributed_c10d._world.pg_map)
    (out / f"seen{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("two")
    start_two(two_ranks, str(folder))
    return folder, [json.loads((folder / f"seen{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_resume_bitwise(two: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, seen = two
    # Rank 1 is told in iteration 10 of 8 an epoch; the other knows one iteration later.
    lines = {one["line"] for one in seen}
    assert lines == {
        "SIGTERM: stopped after iteration 11, saved as iter_11.pth; go on with --resume"
    }
    for rank in seen:
        assert rank["stopped"] + rank["resumed"] == rank["whole"]
    whole, resumed = (content(folder / name / "epoch_3.pth") for name in ("whole", "out"))
    assert_same(whole, resumed)
    assert len(whole["random_state"]) == 2
    one, other = (state["torch"] for state in whole["random_state"])
    assert not torch.equal(one, other)  # diff_rank_seed: each rank has its own


def test_a_period_of_the_clock_makes_one_save(two: tuple[Path, list[dict[str, Any]]]) -> None:
    # A look each five iterations: due at the 10th by the first process's clock, agreed on at
    # the 15th; 55 seconds later, at the 20th, the next save is not due.
    folder, seen = two
    names = sorted(path.name for path in (folder / "clocked").glob("*.pth"))
    assert names == ["epoch_3.pth", "iter_15.pth"]
    # Both votes, of signals and of the clock, wait as long as the config says.
    assert [rank["waits"] for rank in seen] == [[77.0, 77.0]] * 2


def test_a_training_leaves_no_group_of_its_own(two: tuple[Path, list[dict[str, Any]]]) -> None:
    assert [rank["groups"] for rank in two[1]] == [1, 1]


def test_another_number_of_processes_misses_and_repeats_nothing(
    two: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = two
    reads = Reads(monkeypatch)
    runner = build_runner(toy(tmp_path), work_dir=tmp_path, resume=folder / "out/iter_11.pth")
    rates: list[float] = []

    class Look(Hook):
        def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            rates.append(runner.optim_wrapper.param_groups[0]["lr"])

    runner.register_hook(Look())
    train(runner)
    assert runner.iter == 24
    # Three batches of four are behind the second epoch's start, on two ranks together.
    before = [image for rank in seen for image in rank["stopped"][16:]]
    assert sorted(before + reads.seen[: 32 - 12]) == list(range(32))
    log = log_of(tmp_path)
    assert log.count("resumed with 1 processes instead of 2: the images of epoch 2 that") == 1
    assert "no longer bitwise" in log
    whole = torch.load(folder / "whole/epoch_3.pth", weights_only=True)
    logged = whole["message_hub"]["log_scalars"]["train/lr"]["history"]
    assert rates == logged[11:].tolist()


@pytest.mark.slow
def test_a_process_group_s_sigterm_saves_and_leaves_with_its_status(tmp_path: Path) -> None:
    """The scheduler signals the data loader's workers too."""
    extra = "train_dataloader.update(num_workers=2)\n"
    config = write_config(tmp_path, KEYED + extra)
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools/train.py"), str(config), "--out", str(tmp_path)]
    command += ["--cfg-options", "train_cfg.max_epochs=100000"]
    command += ["default_hooks.checkpoint.interval=100000"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 90
        while "Epoch(train)" not in log_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    line = said.strip().splitlines()[-1]
    assert line.startswith("SIGTERM: stopped after iteration ")
    saved = list(tmp_path.glob("iter_*.pth"))
    assert len(saved) == 1 and f"saved as {saved[0].name}" in line
    assert not (tmp_path / "results.json").exists()
