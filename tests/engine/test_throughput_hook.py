"""Images a second, on a clock that the test drives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from msn_mm.engine.hooks import throughput_hook
from msn_mm.engine.hooks.throughput_hook import ThroughputHook


class Runner(SimpleNamespace):
    """What the hook uses of a runner, and a list of what it logged."""

    def __init__(self) -> None:
        self.logged: list[float] = []
        hub = SimpleNamespace(update_scalar=lambda name, value: self.logged.append(value))
        super().__init__(iter=0, world_size=4, message_hub=hub)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(throughput_hook.time, "perf_counter", lambda: now.value)
    return now


def steps(hook: ThroughputHook, runner: Any, clock: SimpleNamespace, seconds: list[float]) -> None:
    batch = {"inputs": None, "data_samples": {"index": torch.arange(8)}}
    hook.before_train_epoch(runner)
    for index, duration in enumerate(seconds):
        clock.value += duration
        hook.after_train_iter(runner, index, batch)
        runner.iter += 1


def test_the_rate_is_steady_and_over_all_processes(clock: SimpleNamespace) -> None:
    hook, runner = ThroughputHook(window=2, warmup=2, interval=1), Runner()
    steps(hook, runner, clock, [100.0, 50.0, 1.0, 3.0, 1.0])
    # 8 images of each of 4 processes; the first two steps do not count.
    assert runner.logged == [32.0, 16.0, 16.0]


def test_what_lies_between_epochs_does_not_count(clock: SimpleNamespace) -> None:
    hook, runner = ThroughputHook(window=9, warmup=0, interval=2), Runner()
    steps(hook, runner, clock, [1.0, 1.0])
    clock.value += 500.0  # a validation
    steps(hook, runner, clock, [1.0, 1.0])
    assert runner.logged == [32.0, 32.0]


@pytest.mark.parametrize("settings", [{"window": 0}, {"interval": 0}, {"warmup": -1}])
def test_wrong_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        ThroughputHook(**settings)
