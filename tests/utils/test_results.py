from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from msn_mm.errors import UserError
from msn_mm.utils.results import environment, format_table, to_json, write_results


def _write(path: Path, checkpoint: Path | None = None, **metrics: object) -> dict:
    write_results(
        path,
        tool="test",
        config="configs/x.py",
        checkpoint=checkpoint,
        settings={"shots": (1, 2), "path": Path("a/b")},
        metrics=metrics,
        seconds=1.23456,
    )
    return json.loads(path.read_text())


def test_keys_values_and_hash(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pth"
    checkpoint.write_bytes(b"weights")
    content = _write(tmp_path / "new" / "results.json", checkpoint, top1=np.float32(50.0))
    assert list(content) == [
        "tool",
        "config",
        "checkpoint",
        "checkpoint_sha256",
        "settings",
        "metrics",
        "environment",
        "seconds",
    ]
    assert content["checkpoint"] == str(checkpoint)
    assert content["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert content["settings"] == {"shots": [1, 2], "path": "a/b"}
    assert content["metrics"] == {"top1": 50.0}
    assert content["seconds"] == 1.235


def test_without_a_checkpoint_both_are_null(tmp_path: Path) -> None:
    content = _write(tmp_path / "results.json")
    assert content["checkpoint"] is None and content["checkpoint_sha256"] is None


def test_several_rows_are_lists_of_one_length(tmp_path: Path) -> None:
    first, gone = tmp_path / "a.pth", tmp_path / "gone.pth"
    first.write_bytes(b"weights")
    content = write_results(
        tmp_path / "results.json",
        tool="lowshot",
        config=("a.py", "b.py", "c.py"),
        checkpoint=[first, None, gone],
        settings={},
        metrics={},
        seconds=0,
    )
    assert json.loads((tmp_path / "results.json").read_text()) == content
    assert content["config"] == ["a.py", "b.py", "c.py"]
    assert content["checkpoint"] == [str(first), None, str(gone)]
    assert content["checkpoint_sha256"] == [hashlib.sha256(b"weights").hexdigest(), None, None]
    one = write_results(tmp_path / "one.json", "lowshot", ["a.py"], [first], {}, {}, 0)
    assert one["checkpoint"] == [str(first)] and len(one["checkpoint_sha256"]) == 1


def test_nan_becomes_null_so_that_any_json_reader_reads_it(tmp_path: Path) -> None:
    content = _write(tmp_path / "results.json", a=float("nan"), b=[float("inf"), torch.tensor(2)])
    assert content["metrics"] == {"a": None, "b": [None, 2]}
    assert to_json({1: np.array([1.5]), "s": {np.int64(3)}}) == {"1": [1.5], "s": [3]}


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    before = _write(path, top1=1)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match=r"cannot write .*results\.json: disk full"):
        _write(path, top1=2)
    monkeypatch.undo()
    assert json.loads(path.read_text()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_the_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    _write(tmp_path / "results.json")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "results.json")}
    assert len(modes) == 1


def test_environment_names_versions_and_no_machine() -> None:
    found = environment()
    assert found["torch"] == torch.__version__ and found["cpu_count"] == os.cpu_count()
    assert {"msn_mm", "mmengine", "timm", "python", "device", "cyanure"} <= set(found)
    assert os.uname().nodename not in found.values()
    assert str(Path.cwd()) not in json.dumps(found)


def test_table() -> None:
    table = format_table(["", "1 label", "k-NN"], [["raw pixels", "64.0 ± 5.0", "9"]])
    assert table.splitlines() == [
        "               1 label  k-NN",
        "----------------------------",
        "raw pixels  64.0 ± 5.0     9",
    ]
    with pytest.raises(ValueError, match="2 cells and the header 1"):
        format_table(["a"], [["b", "c"]])
