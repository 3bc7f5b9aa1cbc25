"""The best checkpoint survives a save that fails; the next better score is saved again."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.fileio import register_backend
from toy_training import write_config

from msn_mm.engine.atomic_backend import AtomicLocalBackend
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError

SCORES = [5.0, 4.0, 3.0, 6.0, 2.0]


@register_backend("full_for_best", force=True)
class FullForBest(AtomicLocalBackend):
    """Refuses the files that :attr:`failing` names, and looks at what lies beside them."""

    failing: set[str] = set()
    beside: dict[str, list[str]] = {}

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        path = Path(filepath)
        if path.name in self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if path.name.startswith("best_"):
            self.beside[path.name] = sorted(p.name for p in path.parent.glob("best_*"))
        super().put(obj, filepath)


def trained(
    tmp_path: Path,
    keys: list[str],
    failing: set[str],
    monkeypatch: pytest.MonkeyPatch,
    launcher: str = "none",
    **hook: Any,
) -> Any:
    """Run five epochs, each with a validation of the score of its number; lower is better."""
    monkeypatch.setattr(FullForBest, "failing", failing)
    monkeypatch.setattr(FullForBest, "beside", {})
    checkpoint = {
        "save_best": keys[0] if len(keys) == 1 else keys,
        "rule": "less",
        "backend_args": {"backend": "full_for_best"},
        **hook,
    }
    extra = f"default_hooks['checkpoint'].update({checkpoint!r})\n"
    cfg = load_config(write_config(tmp_path, extra), {"train_cfg.max_epochs": len(SCORES)})
    cfg.env_cfg = {"dist_cfg": {"timeout": 30}}
    runner = build_runner(cfg, work_dir=tmp_path / "out", launcher=launcher)
    saver = next(h for h in runner.hooks if type(h).__name__ == "SafeCheckpointHook")
    end = saver.after_train_epoch

    def with_validation(runner: Any) -> None:
        end(runner)
        # as in a validation, which follows the epoch's count
        runner.train_loop._epoch += 1
        saver.after_val_epoch(runner, dict.fromkeys(keys, SCORES[runner.epoch - 1]))
        runner.train_loop._epoch -= 1
        runner.scores.append(runner.message_hub.get_info("best_score"))

    saver.after_train_epoch = with_validation
    runner.saver, runner.scores = saver, []
    return runner


def best_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("best_*"))


@pytest.mark.parametrize("keys", [["knn/top1"], ["knn/top1", "loss"]])
def test_a_failed_best_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    failing = {f"best_knn_top1_epoch_{n}.pth" for n in (2, 3, 5)}
    runner = trained(tmp_path, keys, failing, monkeypatch)
    train(runner)
    tail = "" if len(keys) == 1 else "_knn/top1"
    first = str(tmp_path / "out" / "best_knn_top1_epoch_1.pth")
    others = ["best_loss_epoch_5.pth"] if len(keys) == 2 else []
    assert best_files(tmp_path) == ["best_knn_top1_epoch_1.pth", *others]
    hub = runner.message_hub
    assert hub.get_info(f"best_score{tail}") == 5.0
    assert hub.get_info(f"best_ckpt{tail}") == first
    saver = runner.saver
    assert (saver.best_ckpt_path_dict["knn/top1"] if others else saver.best_ckpt_path) == first
    if others:
        assert hub.get_info("best_score_loss") == 2.0
    saved = torch.load(tmp_path / "out" / "epoch_5.pth", weights_only=True)["message_hub"]
    assert saved["runtime_info"][f"best_ckpt{tail}"] == first
    said = [x for x in Path(runner.logger.log_file).read_text().splitlines() if "GOES ON" in x]
    assert len(said) == 3 and all(f"'{first}' stays" in line for line in said)


def test_the_new_best_is_written_before_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = trained(tmp_path, ["acc"], {"best_acc_epoch_1.pth"}, monkeypatch)
    train(runner)
    assert best_files(tmp_path) == ["best_acc_epoch_5.pth"]
    assert FullForBest.beside == {
        "best_acc_epoch_2.pth": [],
        "best_acc_epoch_3.pth": ["best_acc_epoch_2.pth"],
        "best_acc_epoch_5.pth": ["best_acc_epoch_3.pth"],
    }
    assert runner.message_hub.get_info("best_score") == 2.0


def test_a_failed_best_stops_the_run_when_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = {"best_acc_epoch_2.pth"}
    runner = trained(tmp_path, ["acc"], failing, monkeypatch, on_error="stop")
    with pytest.raises(UserError, match=r"best_acc_epoch_2.pth could not be .*epoch_1.pth' stays"):
        train(runner)
    assert best_files(tmp_path) == ["best_acc_epoch_1.pth"]


def _one_of_two(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    out = Path(folder)
    with pytest.MonkeyPatch.context() as patch:
        runner = trained(out, ["acc"], {"best_acc_epoch_2.pth"}, patch, launcher="pytorch")
        train(runner)
    hub = runner.message_hub
    told = [hub.get_info("best_score"), Path(hub.get_info("best_ckpt")).name]
    (out / f"{rank}.json").write_text(json.dumps([told, runner.scores]))
    torch.distributed.destroy_process_group()


def test_all_processes_know_that_a_best_was_not_written(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, (port, str(tmp_path)), nprocs=2)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == two == [[2.0, "best_acc_epoch_5.pth"], [5.0, 5.0, 3.0, 3.0, 2.0]]
