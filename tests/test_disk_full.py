"""Saves that fail: the training goes on or stops as it was told, what was saved before stays."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from mmengine.fileio import register_backend
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend
from toy_training import write_config

from msn_mm.engine import log_files
from msn_mm.engine.atomic_backend import AtomicLocalBackend
from msn_mm.engine.checkpointing import fault_of, find_resumable
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError
from tests.helpers import assert_same, run, tiny_digits, weights

EPOCHS = 7


@register_backend("full_local", force=True)
class FullBackend(AtomicLocalBackend):
    """Fails in the middle of the files that :attr:`failing` names."""

    failing: dict[str, int] = {}

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        self.error = self.failing.get(Path(filepath).name)
        super().put(obj, filepath)

    def _write(self, file: IO[bytes], obj: bytes | memoryview) -> None:
        file.write(obj[: len(obj) // 2])
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        file.write(obj[len(obj) // 2 :])


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Names of files and the error that writing them meets."""
    names: dict[str, int] = {}
    monkeypatch.setattr(FullBackend, "failing", names)
    return names


def toy(tmp_path: Path, out: Path, on_error: str = "continue", **launch: Any) -> Runner:
    config = write_config(
        tmp_path,
        "default_hooks['checkpoint'].update(max_keep_ckpts=2, "
        f"on_error='{on_error}', backend_args=dict(backend='full_local'))\n",
    )
    cfg = load_config(config, {"train_cfg.max_epochs": EPOCHS})
    return build_runner(cfg, work_dir=out, **launch)


def checkpoints(out: Path) -> list[str]:
    """Names of the checkpoints; all must be whole, with nothing beside them."""
    assert not list(out.glob(".*.tmp"))
    for path in out.glob("*.pth"):
        assert fault_of(path) is None
    return sorted(path.name for path in out.glob("*.pth"))


def log(runner: Runner) -> list[str]:
    return Path(runner.logger.log_file).read_text().splitlines()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_training_goes_on_to_the_next_save(
    tmp_path: Path, failing: dict[str, int], error: int
) -> None:
    whole = toy(tmp_path, tmp_path / "whole")
    train(whole)
    out = tmp_path / "out"
    failing.update({f"epoch_{n}.pth": error for n in (4, 5, 6)})
    runner = toy(tmp_path, out)
    seen = []

    class Look(Hook):
        priority = "LOWEST"

        def before_train_epoch(self, runner: Runner) -> None:
            seen.append(checkpoints(out))

    runner.register_hook(Look())
    train(runner)
    both = ["epoch_2.pth", "epoch_3.pth"]
    assert seen[2:] == [["epoch_1.pth", "epoch_2.pth"], both, both, both, both]
    assert checkpoints(out) == ["epoch_3.pth", "epoch_7.pth"]
    assert (out / "last_checkpoint").read_text() == str(out / "epoch_7.pth")
    loud = [line for line in log(runner) if "TRAINING GOES ON" in line]
    assert len(loud) == 3
    assert os.strerror(error) in loud[0] and "epoch_4.pth" in loud[0]
    assert f"'{out / 'epoch_3.pth'}' stays" in loud[2]
    assert_same(weights(runner), weights(whole))


def test_a_run_resumed_after_failed_saves_ends_as_without_them(
    tmp_path: Path, failing: dict[str, int]
) -> None:
    whole = toy(tmp_path, tmp_path / "whole")
    train(whole)
    failing.update({f"epoch_{n}.pth": errno.ENOSPC for n in (4, 5)})
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"epoch_4.pth could not be written to .*: No space left.*stops.*--resume"
    ) as told:
        train(toy(tmp_path, out, on_error="stop"))
    assert "\n" not in str(told.value)
    assert checkpoints(out) == ["epoch_2.pth", "epoch_3.pth"]
    failing.clear()
    resumed = toy(tmp_path, out, resume=True)
    train(resumed)
    assert checkpoints(out) == ["epoch_6.pth", "epoch_7.pth"]
    assert_same(weights(resumed), weights(whole))


def test_a_last_checkpoint_that_is_missing_is_an_error(
    tmp_path: Path, failing: dict[str, int]
) -> None:
    out = tmp_path / "out"
    failing["epoch_7.pth"] = errno.ENOSPC
    with pytest.raises(UserError, match=r"training is done, but its checkpoint epoch_7.pth"):
        train(toy(tmp_path, out))
    assert find_resumable(out)[0].name == "epoch_6.pth"
    failing.clear()
    train(toy(tmp_path, out, resume=True))
    assert find_resumable(out)[0].name == "epoch_7.pth"


def test_a_pointer_that_cannot_be_moved_is_no_failed_save(
    tmp_path: Path, failing: dict[str, int]
) -> None:
    out = tmp_path / "out"
    failing["last_checkpoint"] = errno.ENOSPC
    runner = toy(tmp_path, out)
    train(runner)
    assert checkpoints(out) == ["epoch_6.pth", "epoch_7.pth"]
    assert find_resumable(out)[0].name == "epoch_7.pth"
    assert not (out / "last_checkpoint").exists()
    assert any("last_checkpoint could not be written" in line for line in log(runner))


def test_on_error_is_checked() -> None:
    with pytest.raises(ValueError, match="'continue' or 'stop', not 'ignore'"):
        SafeCheckpointHook(on_error="ignore")


def test_checkpoints_lie_where_a_resume_looks(tmp_path: Path) -> None:
    extra = f"default_hooks['checkpoint']['out_dir'] = '{tmp_path / 'elsewhere'}'\n"
    cfg = load_config(write_config(tmp_path, extra))
    with pytest.raises(UserError, match=r"out_dir='.*elsewhere' .*work_dir \(--out\)") as told:
        build_runner(cfg, work_dir=tmp_path / "out")
    assert "\n" not in str(told.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root mounts a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def digits() -> Any:
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    return tiny_digits(
        **{
            "train_cfg.max_epochs": 5,
            "default_hooks.checkpoint.interval": 1,
            "default_hooks.logger.interval": 1,
            "visualizer.vis_backends": backends,
        }
    )


def steps_with_a_loss(directory: Path) -> list[int]:
    lines = (directory / "vis_data" / "scalars.json").read_text().splitlines()
    return sorted({entry["step"] for entry in map(json.loads, lines) if "loss" in entry})


def at(actions: dict[int, Callable[[Runner], None]]) -> Callable[[Runner, dict], None]:
    """Call ``actions[n]`` behind iteration n."""
    return lambda runner, _: actions.get(runner.iter + 1, lambda _: None)(runner)


def test_a_disk_that_is_full_for_a_while(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "RETRY_S", 0.0)
    whole = run(digits(), tmp_path / "whole")
    out, ballast = small_disk / "run", small_disk / "ballast"

    def fill(_: Runner) -> None:
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def look(_: Runner) -> None:
        assert checkpoints(out) == ["epoch_1.pth"]

    actions = {5: fill, 10: look, 14: lambda _: ballast.unlink()}
    runner = run(digits(), out, at(actions))
    assert checkpoints(out) == ["epoch_1.pth", "epoch_4.pth", "epoch_5.pth"]
    assert_same(weights(runner), weights(whole))
    logged = steps_with_a_loss(Path(runner.log_dir))
    assert set(logged) >= {1, 2, 3, 4, 5, 15, 16, 17, 18, 19, 20}
    assert len(logged) < 20


def test_a_torn_line_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "RETRY_S", 0.0)
    dump, calls = LocalVisBackend._dump, []

    def torn(self: LocalVisBackend, value: dict, path: str, kind: str) -> None:
        dump(self, value, path, kind)
        calls.append(path)
        if len(calls) == 4:
            Path(path).write_text(Path(path).read_text()[:-9])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalVisBackend, "_dump", torn)
    runner = run(digits(), tmp_path)
    assert steps_with_a_loss(Path(runner.log_dir)) == [1, *range(3, 21)]


def remove(directory: Path) -> None:
    """Remove a directory in which TensorBoard's thread may make a file at any moment."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
            return
    raise AssertionError(f"{directory} cannot be removed")


def test_a_directory_that_vanishes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "RETRY_S", 0.0)
    whole = run(digits(), tmp_path / "whole")
    out = tmp_path / "out"
    runner = run(digits(), out, at({6: lambda _: remove(out)}))
    assert checkpoints(out) == ["epoch_3.pth", "epoch_4.pth", "epoch_5.pth"]
    assert_same(weights(runner), weights(whole))
    assert any("Saving checkpoint at 5 epochs" in line for line in log(runner))
    assert steps_with_a_loss(Path(runner.log_dir))[-1] == 20
