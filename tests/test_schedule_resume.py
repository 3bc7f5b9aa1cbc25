"""A resumed run's schedules where the config's are not the checkpoint's: what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_training import write_config

from msn_mm.engine import schedule_resume
from msn_mm.engine.launch import build_runner, load_config, train


@pytest.mark.parametrize(("long", "told"), [(8, 1), (9, 0)])
def test_a_replay_that_takes_long_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: int, told: int
) -> None:
    """Eight iterations are replayed."""
    monkeypatch.setattr(schedule_resume, "_LONG", long)
    config = write_config(tmp_path)
    train(build_runner(load_config(config), work_dir=tmp_path / "out"))
    other = load_config(config, {"train_cfg.max_epochs": 3})
    other.param_scheduler[0].eta_min = 0.002
    runner = build_runner(other, work_dir=tmp_path / "out", resume=True)
    train(runner)
    log = Path(runner.logger.log_file).read_text()
    assert log.count("the config's hold from here on") == 1
    assert log.count("running the schedules up to iteration 8, which may take") == told
