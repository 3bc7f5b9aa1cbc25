"""``resume = True`` in a config: the same search as for ``--resume``, or a start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from msn_mm.engine.launch import build_runner, load_config
from msn_mm.errors import UserError
from tests.helpers import run, tiny_digits, weights
from tests.test_resume import assert_same

WITHOUT_VAL = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))


def config(**changes: object) -> Config:
    cfg = tiny_digits(**WITHOUT_VAL, **{"train_cfg.max_epochs": 3})
    cfg.default_hooks.checkpoint = dict(interval=1, max_keep_ckpts=-1)
    cfg.update(changes)
    return cfg


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a training with ``resume=True`` began, and ended."""
    out = tmp_path_factory.mktemp("whole")
    runner = run(config(resume=True), out)
    assert runner.epoch == 3 and not runner._resume
    return out


def resumed(out: Path, **changes: object) -> tuple[int, dict]:
    runner = build_runner(config(resume=True, **changes), work_dir=out)
    begun = []
    load = runner.load_or_resume

    def note() -> None:
        load()
        begun.append(runner.epoch)

    runner.load_or_resume = note
    runner.train()
    return begun[0], weights(runner)


def test_the_newest_whole_file_is_found_without_a_pointer(whole: Path, tmp_path: Path) -> None:
    for epoch in (1, 2):
        shutil.copy(whole / f"epoch_{epoch}.pth", tmp_path)
    content = (whole / "epoch_3.pth").read_bytes()
    (tmp_path / "epoch_3.pth").write_bytes(content[: len(content) // 2])
    epoch, ended = resumed(tmp_path)
    assert epoch == 2
    assert_same(ended, resumed(whole)[1])


def test_with_a_path_that_file_is_gone_on_from(whole: Path, tmp_path: Path) -> None:
    first = str(whole / "epoch_1.pth")
    epoch, ended = resumed(tmp_path, load_from=first)
    assert epoch == 1
    assert_same(ended, resumed(whole)[1])
    with pytest.raises(UserError, match=r"no checkpoint at '.*epoch_9\.pth'"):
        build_runner(config(resume=True, load_from=str(whole / "epoch_9.pth")), work_dir=tmp_path)


def test_damaged_files_alone_are_no_reason_to_start(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "epoch_1.pth").write_bytes((whole / "epoch_1.pth").read_bytes()[:500])
    with pytest.raises(UserError, match=r"no whole checkpoint .* \(1 damaged\)"):
        build_runner(config(resume=True), work_dir=tmp_path)


def test_the_config_beside_a_resumed_run_is_the_first_one(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "epoch_2.pth", tmp_path)
    runner = run(config(), tmp_path, resume=True)
    dumped = load_config(next(tmp_path.glob("*.py")))
    assert not dumped.get("resume") and dumped.get("load_from") is None
    assert_same(weights(runner), resumed(whole)[1])
