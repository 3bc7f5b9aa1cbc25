"""The demo and tools/test.py on the real digits config, everything in it made tiny."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from msn_mm.utils.cli import run_tool

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "model.backbone.depth=1",
    "model.backbone.embed_dim=24",
    "model.head.hidden_dim=16",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
]
Main = Callable[[list[str]], int]


def _main(tool: str) -> Main:
    spec = importlib.util.spec_from_file_location(f"tool_{tool}", ROOT / "tools" / f"{tool}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def _fails(tool: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a tool that must refuse, and return its one line."""
    with pytest.raises(SystemExit) as stop:
        run_tool(_main(tool), argv)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """Run the demo once: its directory, what it printed last, and its results."""
    out = tmp_path_factory.mktemp("demo")
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(words)))
        argv = ["--out", str(out), "--splits", "10", "--cfg-options", *TINY]
        assert _main("demo")(argv) == 0
    return out, printed[-1], json.loads((out / "results.json").read_text())


def test_demo_measures_the_three_rows_by_one_protocol(demo: Any) -> None:
    _, _, results = demo
    assert results["tool"] == "demo" and results["checkpoint_sha256"]
    assert list(results["metrics"]) == ["raw_pixels", "untrained", "msn"]
    for measured in results["metrics"].values():
        assert list(measured) == ["1", "2", "5", "knn"]
        assert all(len(measured[shots]["top1"]) == 10 for shots in ("1", "2", "5"))
    raw = results["metrics"]["raw_pixels"]
    means = [raw[shots]["top1_mean"] for shots in ("1", "2", "5")]
    assert means == pytest.approx([64, 77, 86], abs=4.5)
    assert raw["knn"]["top1"] > 95
    # training must have moved the features
    assert results["metrics"]["untrained"] != results["metrics"]["msn"]


def test_demo_prints_a_table_a_verdict_and_the_way_on(demo: Any) -> None:
    out, printed, results = demo
    table = printed.strip().splitlines()[:5]
    assert "1 label a class" in table[0] and "k-NN" in table[0]
    assert [row.split("  ")[0] for row in table[2:]] == ["raw pixels", "untrained encoder", "MSN"]
    one = results["metrics"]["raw_pixels"]["1"]
    assert f"{one['top1_mean']:.1f} ± {one['top1_std']:.1f}" in table[2]
    # two epochs of a tiny model cannot beat raw pixels, and the demo says so
    assert "MSN does not beat raw pixels" in printed
    for name in ("results.json", "curves.png", "epoch_2.pth", "events.out.tfevents"):
        assert any(file.name.startswith(name) for file in out.rglob("*")), name
    assert f"python tools/test.py configs/msn_digits.py {out / 'epoch_2.pth'}" in printed
    assert "tools/train.py configs/msn_folder.py --cfg-options data_root=" in printed
    assert f"tensorboard --logdir {out}" in printed
    # three panels: validation ran while training
    assert Image.open(out / "curves.png").width > 1500


def test_test_tool_measures_what_the_demo_did(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _, trained = demo
    argv = ["configs/msn_digits.py", str(out / "epoch_2.pth"), "--out", str(tmp_path)]
    options = [*TINY[:3], "test_evaluator.splits=10"]
    assert _main("test")([*argv, "--cfg-options", *options]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["tool"] == "test"
    assert results["checkpoint_sha256"] == trained["checkpoint_sha256"]
    for column, measured in trained["metrics"]["msn"].items():
        # rounding may turn one image of 500
        assert results["metrics"][column]["top1"] == pytest.approx(measured["top1"], abs=0.21)
    assert "epoch_2.pth" in capsys.readouterr().out


def test_test_tool_refuses_in_one_line(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(demo[0] / "epoch_2.pth")
    out = ["--out", str(tmp_path / "out")]
    unlabelled = _fails("test", ["configs/msn_folder.py", checkpoint, *out], capsys)
    assert "names no labelled data" in unlabelled and "test_dataloader" in unlabelled
    absent = _fails("test", ["configs/msn_digits.py", "absent.pth", *out], capsys)
    assert "no such checkpoint: 'absent.pth'" in absent
    assert not (tmp_path / "out").exists()
    other = _fails("test", ["configs/msn_digits.py", checkpoint, *out], capsys)
    assert "belongs to another model" in other


def test_demo_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "needs at least 2" in _fails("demo", ["--splits", "1", *out], capsys)
    folder = ["--config", "configs/msn_folder.py", *out]
    assert "names no labelled data" in _fails("demo", folder, capsys)
    assert "msn_digits.py" in _fails("demo", ["--config", "configs/msn_digit.py", *out], capsys)
    options = ["--cfg-options", *TINY, "val_evaluator.images_per_class=[200]"]
    assert "ask for at most" in _fails("demo", [*out, *options], capsys)
