"""Checkpoints: safe to load, whole or absent, and exact to resume."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same
from mmengine.config import ConfigDict
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from toy_training import write_config

from msn_mm.engine import atomic_backend
from msn_mm.engine.checkpointing import SAVED_AT, fault_of, find_resumable, from_plain, to_plain
from msn_mm.engine.hooks import durable_checkpoint_hook
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError

NOW = 10**9


def save(path: Path, age: int = 0, torn: bool = False, iteration: int = 0, copied: int = 0) -> Path:
    """A checkpoint saved ``age`` seconds ago, its file that many seconds younger when copied."""
    meta = {"epoch": 1, "iter": iteration, SAVED_AT: float(NOW - age)}
    state = {"weight": torch.arange(1000)}
    torch.save({"meta": meta, "state_dict": state, "message_hub": {}}, path)
    if torn:
        path.write_bytes(path.read_bytes()[:-200])
    os.utime(path, (NOW - age + copied,) * 2)
    return path


def test_content_survives_a_safe_load(tmp_path: Path) -> None:
    content = {
        "message_hub": {
            "log_scalars": OrderedDict(loss=HistoryBuffer([1.5, 2.5], [1, 3], max_length=7)),
            "runtime_info": {"best": np.float64(0.25), "step": np.int64(3)},
        },
        "cfg": ConfigDict(lr=0.1, views=[ConfigDict(size=96)]),
        "path": Path("a/b"),
        "array": np.arange(3),
        "weight": torch.ones(2),
    }
    dropped: list[str] = []
    torch.save(to_plain(content, dropped), tmp_path / "c.pth")
    loaded = from_plain(torch.load(tmp_path / "c.pth", weights_only=True))
    assert dropped == []
    history = loaded["message_hub"]["log_scalars"]["loss"]
    assert isinstance(history, HistoryBuffer)
    assert history.max_length == 7
    np.testing.assert_array_equal(history.data[0], [1.5, 2.5])
    np.testing.assert_array_equal(history.data[1], [1, 3])
    assert history.mean() == pytest.approx(1.0)  # sum of values over sum of counts
    assert loaded["message_hub"]["runtime_info"] == {"best": 0.25, "step": 3}
    assert loaded["cfg"] == {"lr": 0.1, "views": [{"size": 96}]}
    assert loaded["path"] == "a/b"
    assert torch.equal(loaded["array"], torch.arange(3))


def test_what_no_safe_type_holds_is_named() -> None:
    dropped: list[str] = []
    assert to_plain({"meta": {"tool": object(), "lr": 1.0}}, dropped) == {
        "meta": {"tool": None, "lr": 1.0}
    }
    assert dropped == ["checkpoint.meta.tool (object)"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = get_file_backend(backend_args={"backend": atomic_backend.ATOMIC_BACKEND})
    target = tmp_path / "deep" / "epoch_1.pth"
    backend.put(b"old", target)

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(atomic_backend.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        backend.put(b"new content", target)
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["epoch_1.pth"]


def test_the_newest_whole_file_is_resumed(tmp_path: Path) -> None:
    save(tmp_path / "epoch_9.pth", age=30)
    whole = save(tmp_path / "epoch_10.pth", age=20)
    torn = save(tmp_path / "epoch_11.pth", age=10, torn=True)
    (tmp_path / "epoch_12.pth").touch()
    save(tmp_path / "best_knn_epoch_12.pth")
    assert fault_of(whole) is None
    assert fault_of(torn) == "it was not written to its end"
    found, skipped = find_resumable(tmp_path)
    assert found == whole
    assert [line.split(":")[0] for line in skipped] == [
        "passing over epoch_12.pth",
        "passing over epoch_11.pth",
    ]


def test_the_newest_was_saved_last_whatever_happened_to_the_files(tmp_path: Path) -> None:
    # a run from scratch in the directory of an older, longer one
    save(tmp_path / "epoch_100.pth", age=500, iteration=400)
    save(tmp_path / "iter_3.pth", age=20, iteration=3, copied=300)
    new = save(tmp_path / "epoch_1.pth", age=10, iteration=4)
    assert find_resumable(tmp_path) == (new, [])
    # two saves within one tick of the clock
    further = save(tmp_path / "iter_5.pth", age=10, iteration=5)
    assert find_resumable(tmp_path) == (further, [])
    save(tmp_path / "epoch_101.pth", age=10, iteration=2)
    assert find_resumable(tmp_path) == (further, [])


def test_one_wrong_byte_anywhere_is_found(tmp_path: Path) -> None:
    save(tmp_path / "epoch_1.pth", age=10)
    newest = save(tmp_path / "epoch_2.pth")
    content = newest.read_bytes()
    weight = torch.arange(1000).numpy().tobytes()
    assert content.count(weight) == 1
    for offset in (content.index(weight) + 4321, content.index(b"state_dict") + 3):
        broken = bytearray(content)
        broken[offset] ^= 0x10
        newest.write_bytes(bytes(broken))
        found, skipped = find_resumable(tmp_path)
        assert found.name == "epoch_1.pth"
        assert len(skipped) == 1
        assert skipped[0].startswith("passing over epoch_2.pth: it")


def test_weights_alone_are_no_training_state(tmp_path: Path) -> None:
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": {"weight": torch.ones(2)}}, path)
    with pytest.raises(UserError, match="no use: it holds no training state"):
        find_resumable(tmp_path, path)


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    ours = [".epoch_3.pth.ab_12xyz.tmp", ".last_checkpoint.q1w2e3r4.tmp"]
    others = [".notes.tmp", "epoch_3.pth", ".epoch_3.pth.tmp"]
    for name in ours + others:
        (tmp_path / name).touch()
    assert atomic_backend.remove_unfinished(tmp_path) == ours
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def test_nothing_to_resume_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no whole checkpoint in .*start from scratch"):
        find_resumable(tmp_path)
    torn = save(tmp_path / "epoch_2.pth", torn=True)
    with pytest.raises(UserError, match=r"\(1 damaged\)"):
        find_resumable(tmp_path)
    save(tmp_path / "epoch_1.pth", age=10)
    with pytest.raises(
        UserError, match=r"epoch_2.pth' is of no use: it was not.*one there is 'epoch_1.pth'"
    ):
        find_resumable(tmp_path, torn)
    with pytest.raises(UserError, match="no checkpoint at"):
        find_resumable(tmp_path, tmp_path / "epoch_3.pth")


def test_file_and_directory_are_flushed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "epoch_1.pth"
    seen = []

    def note(handle: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(handle).st_mode), target.exists()))

    monkeypatch.setattr(atomic_backend.os, "fsync", note)
    atomic_backend.AtomicLocalBackend().put(b"content", target)
    assert seen == [(False, False), (True, True)]  # the file before its name, then the name


def test_a_clock_that_was_set_back_does_not_hide_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, "default_hooks['checkpoint'].update(max_keep_ckpts=-1)\n")
    out = tmp_path / "out"
    train(build_runner(load_config(config), work_dir=out))
    monkeypatch.setattr(durable_checkpoint_hook.time, "time", lambda: 1000.0)
    runner = build_runner(
        load_config(config, {"train_cfg.max_epochs": 4}), work_dir=out, resume=True
    )
    train(runner)
    assert find_resumable(out)[0].name == "epoch_4.pth"


@pytest.mark.parametrize("keep", [0, 1])
def test_one_checkpoint_is_too_few(keep: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        SafeCheckpointHook(max_keep_ckpts=keep)


def run(config: Path, out: Path, **kwargs: Any) -> dict[str, Any]:
    """Train the toy for four epochs and return what its newest checkpoint holds."""
    cfg = load_config(config, {"train_cfg.max_epochs": 4})
    runner = build_runner(cfg, work_dir=out, **kwargs)
    train(runner)
    content = torch.load(find_resumable(out)[0], weights_only=True)
    content["history"] = runner.message_hub.get_scalar("train/loss").data[0]
    return content


def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "default_hooks['checkpoint'].update(max_keep_ckpts=-1)", name="keep.py"
    )
    out = tmp_path / "out"
    whole = run(config, out)
    # As after a kill while the third epoch's checkpoint was written.
    (out / "epoch_4.pth").unlink()
    third = out / "epoch_3.pth"
    third.write_bytes(third.read_bytes()[:-100])
    torch.manual_seed(99)
    resumed = run(config, out, resume=True)
    for part in ("state_dict", "optimizer", "param_schedulers", "random_state"):
        assert_same(whole[part], resumed[part], part)
    assert resumed["meta"]["epoch"] == 4
    assert len(whole["history"]) == 16
    np.testing.assert_array_equal(whole["history"], resumed["history"])


def test_the_history_of_a_scalar_is_bounded(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "default_hooks['checkpoint'].update(max_history=5)", name="short.py"
    )
    content = run(config, tmp_path / "out")
    assert len(content["history"]) == 5
    saved = content["message_hub"]["log_scalars"]["train/loss"]
    np.testing.assert_array_equal(saved["history"], content["history"])
