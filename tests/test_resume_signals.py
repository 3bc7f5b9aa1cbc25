"""Stopped by signals, saved by the clock, resumed under other schedules."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from msn_mm.engine import step_vote
from msn_mm.engine.hooks import safe_checkpoint_hook as safe_module
from msn_mm.engine.hooks import stop_signal_hook as stop_module
from msn_mm.engine.hooks.stop_signal_hook import StopSignalHook
from msn_mm.engine.launch import build_runner, train
from msn_mm.engine.loops import worker_signals
from msn_mm.engine.stopped import TrainingStopped
from tests.helpers import run, tiny_digits
from tests.test_resume import KEYED, Kill, Killed, Reads, assert_same, content, log_of, toy


class Signal(Hook):
    """Send this process a signal behind an iteration."""

    priority = "VERY_HIGH"

    def __init__(self, number: int, iterations: int, validation: bool = False) -> None:
        self.number, self.iterations, self.validation = number, iterations, validation

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.iterations and not self.validation:
            os.kill(os.getpid(), self.number)

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter == self.iterations and self.validation:
            os.kill(os.getpid(), self.number)


def stopped(cfg: Any, out: Path, *when: Any, **launch: Any) -> TrainingStopped:
    runner = build_runner(cfg, work_dir=out, **launch)
    runner.register_hook(Signal(*when))
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(TrainingStopped) as caught:
        train(runner)
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    assert before == after
    return caught.value


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_behind_the_optimizer_step(tmp_path: Path, number: int) -> None:
    cfg = toy(tmp_path, {"accumulation": 2, "global_batch_size": 4}, KEYED)
    train(build_runner(cfg, work_dir=tmp_path / "whole"))
    # Eight iterations of two images an epoch; the fifth is in the middle of an optimizer step.
    stop = stopped(cfg, tmp_path / "out", number, 5)
    assert stop.status == 128 + number
    name = signal.Signals(number).name
    assert str(stop) == (
        f"{name}: stopped after iteration 6, saved as iter_6.pth; go on with --resume"
    )
    train(build_runner(cfg, work_dir=tmp_path / "out", resume=True))
    assert_same(content(tmp_path / "whole/epoch_3.pth"), content(tmp_path / "out/epoch_3.pth"))


def test_a_signal_during_validation_repeats_the_validation(tmp_path: Path) -> None:
    cfg = tiny_digits(**{"train_cfg.max_epochs": 2, "train_cfg.val_interval": 1})
    cfg.default_hooks.checkpoint["interval"] = 1
    cfg.val_evaluator.update(splits=2)
    run(cfg, tmp_path / "whole")
    stop = stopped(cfg, tmp_path / "out", signal.SIGTERM, 4, True)
    assert "stopped after iteration 4, saved as iter_4.pth" in str(stop)
    run(cfg, tmp_path / "out", resume=True)
    assert_same(content(tmp_path / "whole/epoch_2.pth"), content(tmp_path / "out/epoch_2.pth"))


class SignalJob(Hook):
    """Signal this process and its workers from outside, as a scheduler does, ``times`` over."""

    priority = "VERY_HIGH"

    def __init__(self, place: str, times: int = 1) -> None:
        self.place, self.times = place, times
        self.workers: list[BaseProcess] = []

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if self.place == "training" and runner.iter + 1 == 6:
            self.signal()

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if self.place == "validation":
            self.signal()

    def signal(self) -> None:
        self.workers = multiprocessing.active_children()
        processes = [str(worker.pid) for worker in self.workers] + [str(os.getpid())]
        for _ in range(self.times):
            subprocess.run(["kill", "-TERM", *processes], check=True)
        time.sleep(0.2)  # workers that end show it here


@pytest.mark.parametrize("place", ["validation", "training"])
@pytest.mark.parametrize("times", [1, 2])
def test_workers_of_a_validation_outlive_the_request_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, times: int
) -> None:
    """A request may be passed on a moment later; workers of an earlier validation may stay."""
    for module in (stop_module, worker_signals):
        monkeypatch.setattr(module, "SAME_REQUEST_S", 60.0)  # on a slow machine too
    stays = place == "training"
    options = {"train_cfg.val_interval": 1, "train_cfg.max_epochs": 2}
    loader = {"num_workers": 1, "persistent_workers": stays, "batch_size": 64}
    cfg = tiny_digits(**options, **{f"val_dataloader.{k}": v for k, v in loader.items()})
    cfg.merge_from_dict({"train_dataloader.num_workers": int(stays)})
    cfg.val_evaluator.update(splits=2)
    runner = build_runner(cfg, work_dir=tmp_path)
    job = SignalJob(place, times)
    runner.register_hook(job)
    with pytest.raises(TrainingStopped) as caught:
        train(runner)
    iterations = 6 if stays else 4
    assert f"stopped after iteration {iterations}, saved as iter_" in str(caught.value)
    assert len(job.workers) == 1 + stays and not any(one.is_alive() for one in job.workers)


def test_a_failed_validation_leaves_no_workers(tmp_path: Path) -> None:
    """The interpreter's exit would wait for workers that outlive its SIGTERM."""

    class Fail(Hook):
        def after_val_iter(self, *_: Any, **__: Any) -> None:
            raise ZeroDivisionError

    cfg = tiny_digits(**{"train_cfg.val_interval": 1, "val_dataloader.num_workers": 1})
    cfg.val_dataloader.persistent_workers = False
    runner = build_runner(cfg, work_dir=tmp_path)
    runner.register_hook(Fail())
    with pytest.raises(ZeroDivisionError) as caught:
        train(runner)
    assert caught.value.__traceback__ is not None  # holds the validation's iterator
    assert multiprocessing.active_children() == []


def test_a_worker_ends_by_a_later_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(worker_signals.os, "kill", lambda _, number: sent.append(number))
    monkeypatch.setattr(worker_signals.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker_signals.signal, "alarm", lambda _: None)
    monkeypatch.setattr(worker_signals, "_asked_at", None)
    clock = iter([10.0, 10.9, 11.1])
    monkeypatch.setattr(worker_signals.time, "monotonic", lambda: next(clock))
    for expected in ([], [], [15]):
        worker_signals._wait_for_another(15, None)
        assert sent == expected


def test_slurm_is_asked_to_start_the_job_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    cfg = toy(tmp_path, {}, KEYED)
    out = tmp_path / "out"
    stop = stopped(cfg, out, signal.SIGUSR1, 2)
    assert not asked.exists() and str(stop).endswith("go on with --resume")
    monkeypatch.setenv("MSN_MM_REQUEUE", "1")
    stop = stopped(cfg, out, signal.SIGUSR1, 6, resume=True)
    assert asked.read_text() == "requeue 4711\n"
    assert str(stop).endswith("Slurm starts job 4711 again, which goes on by itself")
    scontrol.write_text("#!/bin/sh\necho no such job >&2; exit 1\n")
    stop = stopped(cfg, out, signal.SIGUSR1, 7, resume=True)
    assert str(stop).endswith("requeue 4711 failed (no such job): go on with --resume")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    runner = build_runner(cfg, work_dir=out)
    train(runner)
    assert runner.iter == 12 and "going on from iter_7.pth" in log_of(out)


@pytest.mark.parametrize("requeue", ["0", "1"])
def test_slurm_is_told_what_a_requeue_needs(tmp_path: Path, requeue: str) -> None:
    for name in ("srun", "sbatch"):
        stand_in = tmp_path / name
        stand_in.write_text(
            '#!/bin/bash\necho "$(basename "$0") ${MSN_MM_REQUEUE:-}"\nprintf "%s\\n" "$@"\n'
        )
        stand_in.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "REQUEUE": requeue}
    script = Path(__file__).resolve().parent.parent / "tools/slurm_train.sh"
    command = ["bash", str(script), "gpu", "night", "my config.py", "--amp"]
    words = subprocess.run(
        command, env={**environ, "GPUS": "4"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[words.index("--ntasks") + 1] == "4"
    if requeue == "0":
        assert words[0] == "srun " and words[-4:-1] == ["my config.py", "--launcher", "slurm"]
        return
    assert words[0] == "sbatch 1"
    assert words[words.index("--signal") + 1] == "USR1@120" and "--requeue" in words
    step = shlex.split(words[words.index("--wrap") + 1])
    assert step[:2] == ["exec", "srun"] and "--kill-on-bad-exit=1" in step
    assert step[-4:] == ["my config.py", "--launcher", "slurm", "--amp"]


def test_a_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(stop_module.os, "kill", lambda _, number: sent.append(number))
    monkeypatch.setattr(stop_module.signal, "signal", lambda *_: None)
    clock = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr(stop_module.time, "monotonic", lambda: next(clock))
    hook = StopSignalHook()
    hook._note(15, None)
    hook._note(15, None)  # torchrun passes the scheduler's own signal on
    assert not sent
    hook._note(15, None)
    assert sent == [15]


class Released(Hook):
    """Remembers how it was released."""

    def __init__(self) -> None:
        self.together: list[bool] = []

    def release(self, together: bool = True) -> None:
        self.together.append(together)


def test_only_a_common_end_waits_for_the_others(tmp_path: Path) -> None:
    """A process that fails alone must not wait for a vote the others never cast."""
    cfg = toy(tmp_path, {"train_cfg.max_epochs": 1}, KEYED)
    told: list[bool] = []
    for end, when in (("done", None), ("stopped", Signal(15, 2)), ("failed", Kill(2))):
        runner = build_runner(cfg, work_dir=tmp_path / end)
        hook = Released()
        for one in (hook, when):
            if one is not None:
                runner.register_hook(one)
        with suppress(TrainingStopped, Killed):
            train(runner)
        told += hook.together
    assert told == [True, True, False]


def test_a_vote_is_waited_for_by_all_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Work:
        def wait(self) -> None:
            calls.append("wait")
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(
        step_vote.dist, "destroy_process_group", lambda group: calls.append(f"destroy {group}")
    )
    for together, expected in ((False, []), (True, ["wait", "destroy group"])):
        vote = step_vote.StepVote()
        vote._group, vote._work = "group", Work()  # type: ignore[assignment]
        vote.release(together)
        assert calls == expected
        assert vote._group is None and vote._work is None
        vote.release(together)
        assert calls == expected


def test_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(safe_module.time, "monotonic", lambda: now[0])
    options = {
        "default_hooks.checkpoint.every_minutes": 1.0,
        "train_cfg.max_epochs": 6,
        "default_hooks.checkpoint.interval": 100,
    }

    class Tick(Hook):
        def after_train_iter(self, *_: Any, **__: Any) -> None:
            now[0] += 11.0

    cfg = toy(tmp_path, options, KEYED)
    runner = build_runner(cfg, work_dir=tmp_path / "out")
    runner.register_hook(Tick())
    train(runner)
    log = log_of(tmp_path / "out")
    # A minute is six iterations; the clock is looked at each fifth.
    assert re.findall(r"Saving checkpoint at (\d+) iterations", log) == ["10", "20"]
    names = sorted(path.name for path in (tmp_path / "out").glob("*.pth"))
    assert names == ["epoch_6.pth", "iter_10.pth", "iter_20.pth"]


@pytest.mark.parametrize("keep", [-1, 9])
def test_intervals_in_iterations_end_with_an_optimizer_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    options = {"accumulation": 2, "global_batch_size": 4, "train_cfg.max_epochs": 2}
    cfg = toy(tmp_path, options, KEYED)
    hook = dict(by_epoch=False, interval=3, every_minutes=None, max_keep_ckpts=keep)
    cfg.default_hooks.checkpoint.update(hook)
    train(build_runner(cfg, work_dir=tmp_path / "interval"))
    saved = {path.name for path in (tmp_path / "interval").glob("*.pth")}
    # 3, 9 and 15 are the first of the two iterations of a step.
    assert saved == {f"iter_{n}.pth" for n in (4, 6, 10, 12, 16)}
    monkeypatch.setattr(safe_module, "_LOOK", 1)
    cfg.default_hooks.checkpoint.update(interval=1000, every_minutes=1e-9)
    train(build_runner(cfg, work_dir=tmp_path / "clock"))
    saved = {path.name for path in (tmp_path / "clock").glob("*.pth")}
    assert saved == {f"iter_{n}.pth" for n in range(2, 17, 2)}


def test_saves_change_nothing_and_old_ones_go(tmp_path: Path) -> None:
    plain = toy(tmp_path, {}, KEYED)
    train(build_runner(plain, work_dir=tmp_path / "plain"))
    often = toy(tmp_path, {"default_hooks.checkpoint.every_iters": 1}, KEYED)
    train(build_runner(often, work_dir=tmp_path / "often"))
    assert_same(content(tmp_path / "plain/epoch_3.pth"), content(tmp_path / "often/epoch_3.pth"))
    kept = sorted(path.name for path in (tmp_path / "often").glob("iter_*.pth"))
    assert kept == ["iter_10.pth", "iter_11.pth"]


def lrs(cfg: Any, out: Path, **launch: Any) -> dict[int, list[float]]:
    """The learning rate and weight decay of every group at each iteration."""
    seen: dict[int, list[float]] = {}

    class Look(Hook):
        def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            groups = runner.optim_wrapper.param_groups
            seen[runner.iter] = [g[k] for g in groups for k in ("lr", "weight_decay")]

    runner = build_runner(cfg, work_dir=out, **launch)
    runner.register_hook(Look())
    train(runner)
    return seen


def test_more_epochs_follow_the_new_schedule(tmp_path: Path) -> None:
    def digits(epochs: int) -> Any:
        cfg = tiny_digits(**{"train_cfg.max_epochs": epochs})
        cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1)
        return cfg

    whole = lrs(digits(5), tmp_path / "whole")
    lrs(digits(3), tmp_path / "short")
    resumed = lrs(digits(5), tmp_path / "resumed", resume=tmp_path / "short/epoch_2.pth")
    # 64 images in batches of 16: four iterations an epoch.
    assert sorted(resumed) == list(range(8, 20))
    assert all(resumed[n] == whole[n] for n in resumed)
    assert log_of(tmp_path / "resumed").count("the config's hold from here on") == 1
    assert "schedules differ" not in log_of(tmp_path / "whole")
    again = lrs(digits(5), tmp_path / "again", resume=tmp_path / "whole/epoch_2.pth")
    assert again == {n: whole[n] for n in again}
    assert "schedules differ" not in log_of(tmp_path / "again")


BY_ITERATION = "param_scheduler = [dict(type='LinearLR', by_epoch=False, end=1000)]\n"


@pytest.mark.parametrize("schedule", ["", BY_ITERATION])
def test_accumulation_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    """Steps, epochs and schedules go on as under the new number of iterations a step."""

    def keyed(accumulation: int) -> Any:
        return toy(
            tmp_path, {"accumulation": accumulation, "global_batch_size": 4}, KEYED + schedule
        )

    whole = lrs(keyed(2), tmp_path / "whole")
    reads = Reads(monkeypatch)
    stopped(keyed(1), tmp_path / "out", signal.SIGTERM, 6)
    first = list(reads.seen)
    reads.seen.clear()
    resumed = lrs(keyed(2), tmp_path / "out", resume=True)
    # Six steps of four images are twelve iterations of two.
    assert sorted(resumed) == list(range(12, 24))
    assert all(resumed[n] == pytest.approx(whole[n], rel=1e-12) for n in resumed)
    assert sorted(first[16:] + reads.seen[:8]) == list(range(16))
    assert "2 accumulated iterations instead of 1" in log_of(tmp_path / "out")


@pytest.mark.parametrize(
    "wrong", [{"every_minutes": 0}, {"every_iters": -1}, {"max_keep_iters": 1}]
)
def test_impossible_saves(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        safe_module.SafeCheckpointHook(**wrong)


def test_an_unknown_signal() -> None:
    with pytest.raises(ValueError, match="no signal 'SIGFOO'"):
        StopSignalHook(signals=("SIGFOO",))
