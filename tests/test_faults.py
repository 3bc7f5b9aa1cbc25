"""A training that is killed at any moment goes on and ends bitwise as if nothing had happened.

``make test-faults`` runs all of it; the default suite a short form.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.errors import UserError
from tests.fault_training import log_of, start, write_digits
from tests.helpers import assert_same

pytestmark = pytest.mark.faults

EPOCHS = 8
# What the rolling saves leave of a finished run.
LAST = ["epoch_6.pth", "epoch_7.pth", "epoch_8.pth", "iter_27.pth", "iter_30.pth"]
ROOT = Path(__file__).resolve().parent.parent
PARTS = ("state_dict", "optimizer", "param_schedulers", "random_state")
SLOW = dict(backend="faulty_local", pause_s=0.5)
# A save rests for so long in its middle.
PAUSE_S = 0.05
# Enough for a training that takes two seconds on a free machine.
LONGEST_S = 120
# Histories of what depends on the machine's speed.
TIMED = re.compile(r"time|memory|images_per_s|_s$|seconds|share")


def newest(out: Path) -> Path | None:
    """The checkpoint that ``--resume`` would take."""
    try:
        return find_resumable(out)[0]
    except UserError:
        return None


def iteration(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    return torch.load(checkpoint, weights_only=True, mmap=True)["meta"]["iter"]


def said(out: Path) -> str:
    return log_of(out).read_text()


def unfinished(out: Path) -> list[str]:
    return [path.name for path in out.glob(".*.tmp")]


def content(out: Path) -> dict[str, Any]:
    """What a finished run has computed, and the losses on its way."""
    final = torch.load(out / f"epoch_{EPOCHS}.pth", weights_only=True)
    scalars = final["message_hub"]["log_scalars"]
    histories = {
        name: value["history"] for name, value in scalars.items() if not TIMED.search(name)
    }
    assert len(histories["train/loss"]) == EPOCHS * 4
    return {"histories": histories, **{part: final[part] for part in PARTS}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Epochs of four iterations; saves behind every epoch and behind every third iteration."""
    return write_digits(
        tmp_path_factory.mktemp("faults") / "digits.py",
        **{"train_cfg.max_epochs": EPOCHS, "default_hooks.checkpoint.every_iters": 3},
    )


def end(process: BaseProcess, out: Path) -> None:
    """Wait for a training to end, in any way but hanging."""
    process.join(LONGEST_S)
    if process.is_alive():
        process.kill()
        pytest.fail(f"the training hangs: {said(out)}")


def run_whole(config: Path, out: Path, workers: int = 0) -> dict[str, Any]:
    """What a run computes that nobody kills."""
    process = start(config, out, workers=workers)
    end(process, out)
    assert process.exitcode == 0, said(out)
    return content(out)


@pytest.fixture(scope="module")
def uninterrupted(config: Path) -> dict[str, Any]:
    return run_whole(config, config.with_name("uninterrupted"))


def finish(config: Path, out: Path, uninterrupted: dict[str, Any]) -> None:
    """Resume to the end, and compare."""
    process = start(config, out, resume=True)
    end(process, out)
    assert process.exitcode == 0, said(out)
    assert not unfinished(out)
    assert (out / "last_checkpoint").read_text() == str(out / f"epoch_{EPOCHS}.pth")
    assert sorted(path.name for path in out.glob("*.pth")) == LAST
    assert_same(content(out), uninterrupted)


@pytest.mark.parametrize(
    ("moment", "resumed", "pointer", "left"),
    [
        ("inside epoch_5.pth", "iter_18.pth", "iter_18.pth", True),
        ("before iter_18.pth", "epoch_4.pth", "epoch_4.pth", True),
        ("after epoch_5.pth", "epoch_5.pth", "iter_18.pth", False),
        ("after iter_15.pth", "iter_15.pth", "epoch_3.pth", False),
        ("before last_checkpoint", "iter_3.pth", None, True),
        ("after last_checkpoint", "iter_3.pth", "iter_3.pth", False),
    ],
)
def test_killed_at_a_chosen_moment_of_a_save(
    tmp_path: Path,
    config: Path,
    uninterrupted: dict[str, Any],
    moment: str,
    resumed: str,
    pointer: str | None,
    left: bool,
) -> None:
    out = tmp_path / "run"
    process = start(config, out, die=moment)
    end(process, out)
    assert process.exitcode == -signal.SIGKILL, said(out)
    assert bool(unfinished(out)) == left
    pointed = (out / "last_checkpoint").read_text() if pointer else None
    assert pointed == (str(out / pointer) if pointer else None)
    assert newest(out) == out / resumed
    finish(config, out, uninterrupted)
    assert f"resuming from {out / resumed}" in said(out)
    assert ("removed 1 unfinished file of a save that was killed" in said(out)) == left


def kill_at_random(
    process: BaseProcess, out: Path, chance: random.Random, in_save: bool
) -> bool | None:
    """Kill a training; return whether a save was under way, ``None`` when it ended before."""
    if in_save:
        for _ in range(chance.randint(1, 3)):
            while process.is_alive() and unfinished(out):
                time.sleep(0.001)
            while process.is_alive() and not unfinished(out):
                time.sleep(0.001)
        time.sleep(chance.uniform(0, PAUSE_S))
    else:
        process.join(chance.uniform(0, 1.8))
    process.kill()
    process.join()
    if process.exitcode == 0:
        return None
    assert process.exitcode == -signal.SIGKILL, said(out)
    return bool(unfinished(out))


def survive(
    config: Path,
    directory: Path,
    uninterrupted: dict[str, Any],
    kills: int,
    in_saves: int,
    seed: int,
    workers: int = 0,
) -> None:
    """Kill trainings that have saved, resume each, and compare each one that ends."""
    chance = random.Random(seed)
    killed = killed_in_save = runs = resumes = 0
    while killed < kills or killed_in_save < in_saves:
        runs += 1
        out = directory / f"run_{runs}"
        while True:
            enough = killed >= kills and killed_in_save >= in_saves
            checkpoint = newest(out)
            resumes += checkpoint is not None
            before = iteration(checkpoint)
            process = start(
                config, out, resume=checkpoint is not None, workers=workers, pause_s=PAUSE_S
            )
            want_save = killed_in_save < in_saves and chance.random() < 0.5
            in_save = None if enough else kill_at_random(process, out, chance, want_save)
            end(process, out)
            if checkpoint is not None and f"resuming from {checkpoint}" not in said(out):
                assert in_save is not None, said(out)  # killed before it could say so
            if in_save is None:
                break
            assert iteration(newest(out)) >= before
            if newest(out) is not None:  # before the first save there is nothing to resume
                killed += 1
                killed_in_save += in_save
        assert process.exitcode == 0, said(out)
        assert not unfinished(out)
        assert sorted(path.name for path in out.glob("*.pth")) == LAST
        assert_same(content(out), uninterrupted)
    print(f"{killed} kills, {killed_in_save} in saves, {resumes} resumes, {runs} runs")


def test_killed_three_times(tmp_path: Path, config: Path, uninterrupted: dict[str, Any]) -> None:
    survive(config, tmp_path, uninterrupted, kills=3, in_saves=1, seed=int(time.time()))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again(
    tmp_path: Path, config: Path, uninterrupted: dict[str, Any], workers: int
) -> None:
    whole = run_whole(config, tmp_path / "whole", workers)
    # workers draw their seeds from torch's generator; nothing else depends on their number
    for part in ("state_dict", "optimizer", "param_schedulers", "histories"):
        assert_same(whole[part], uninterrupted[part])
    survive(config, tmp_path, whole, 20, 6, seed=int(time.time()), workers=workers)


@pytest.mark.slow
def test_the_tool_itself_is_killed_and_resumed(
    tmp_path: Path, config: Path, uninterrupted: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    tool = [sys.executable, "tools/train.py", str(config), "--out", str(out)]
    options = ["--cfg-options", f"default_hooks.checkpoint.backend_args={SLOW}"]
    # The run that it is compared with had one thread, and sums in its order.
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log_of(out).open("ab") as log:
        process = subprocess.Popen([*tool, *options], cwd=ROOT, stdout=log, stderr=log, env=environ)
        while process.poll() is None and not (out / "epoch_3.pth").is_file():
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, said(out)
        subprocess.run(
            [*tool, "--resume"], cwd=ROOT, stdout=log, stderr=log, check=True, env=environ
        )
    assert "resuming from" in said(out)
    assert_same(content(out), uninterrupted)
