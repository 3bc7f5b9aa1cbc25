"""tools/extract.py: from a command line to files of features."""

from __future__ import annotations

import argparse
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from evaluation.photos import write_photos

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.encoder import ReadOut, build_encoder
from msn_mm.evaluation.extraction import Mask, extract
from msn_mm.evaluation.extraction_run import start_extraction
from msn_mm.utils.cli import ArgumentParser, run_tool
from msn_mm.utils.protocol_options import add_extraction_options

ROOT = Path(__file__).resolve().parent.parent
TINY = ["model.backbone.depth=2", "model.backbone.embed_dim=24", "model.head.hidden_dim=16"]
FEW = ["test_dataloader.dataset.support.indices=60", "test_dataloader.dataset.query.indices=40"]
main = runpy.run_path(str(ROOT / "tools" / "extract.py"))["main"]


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tool(*arguments: str, options: tuple[str, ...] = (*TINY, *FEW)) -> dict:
    assert main(["configs/msn_digits.py", *arguments, "--cfg-options", *options]) == 0
    return json.loads(Path("work_dirs/msn_digits/extract/results.json").read_text())


def test_both_files_hold_what_extraction_gives(capsys: pytest.CaptureFixture[str]) -> None:
    results = tool("none", "--format", "npz", "parquet", "--blocks", "2", "--workers", "0")
    cfg = load_config("configs/msn_digits.py")
    cfg.merge_from_dict({k: int(v) for k, v in (o.split("=") for o in (*TINY, *FEW))})
    data = labelled_data(cfg)
    encoder = build_encoder(cfg, None, ReadOut(blocks=2))
    want = np.concatenate([extract(encoder, part) for part in (data.support, data.query)])
    labels = np.concatenate([data.support.labels, data.query.labels])

    out = Path("work_dirs/msn_digits/extract")
    with np.load(out / "features.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], want)
        np.testing.assert_array_equal(file["labels"], labels)
        assert file["classes"].tolist() == list("0123456789")
        assert file["paths"][[0, 60]].tolist() == ["support/00", "query/00"]
    table = pyarrow.parquet.read_table(out / "features.parquet")
    assert table.column_names == ["path", "label", "class", "feature"]
    assert str(table.schema.field("feature").type) == "fixed_size_list<element: float>[48]"
    np.testing.assert_array_equal(np.stack(table["feature"].to_pylist()).astype(np.float32), want)
    assert table["class"].to_pylist() == [str(label) for label in labels]

    metrics = results["metrics"]
    assert (metrics["images"], metrics["labelled"], metrics["numbers"]) == (100, 100, 48)
    assert metrics["from_cache"] == 0 and results["settings"]["blocks"] == 2
    assert "from cache" in capsys.readouterr().out.splitlines()[0]


def test_the_cache_serves_a_part_and_can_be_left_out() -> None:
    tool("none", "--workers", "0")
    assert tool("none", "--workers", "0", "--part", "query")["metrics"]["from_cache"] == 40
    kept = tool("none", "--workers", "0", "--part", "query", "--no-cache")["metrics"]
    assert kept["from_cache"] == 0 and kept["images"] == 40
    assert len(list(Path("work_dirs/features").iterdir())) == 1


def test_a_folder_without_labels_and_with(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos" / "cat", 3)
    write_photos(tmp_path / "photos" / "dog", 2)
    results = tool("none", "--images", "photos", "--mask-ratio", "0.5", "--workers", "1")
    assert results["metrics"]["labelled"] == 0 and results["metrics"]["classes"] == 0
    file = np.load("work_dirs/msn_digits/extract/features.npz")
    assert file["labels"].tolist() == [-1] * 5 and file["features"].shape == (5, 24)
    assert file["paths"][3] == "photos/dog/00.jpg"
    whole = tool("none", "--images", "photos", "--labels", "folder", "--format", "parquet")
    assert whole["metrics"]["classes"] == 2
    table = pyarrow.parquet.read_table("work_dirs/msn_digits/extract/features.parquet")
    assert table["class"].to_pylist() == ["cat"] * 3 + ["dog"] * 2
    assert not np.array_equal(np.stack(table["feature"].to_pylist()), file["features"])


def test_a_checkpoint_is_used_and_recorded() -> None:
    cfg = load_config("configs/msn_digits.py")
    cfg.merge_from_dict({k: int(v) for k, v in (o.split("=") for o in TINY)})
    trained = build_encoder(cfg, None, seed=7)
    torch.save({"state_dict": trained.trunk.state_dict()}, "a.pth")
    results = tool("a.pth", "--part", "query", "--workers", "0")
    assert results["checkpoint"] == "a.pth" and len(results["checkpoint_sha256"]) == 64
    rows = np.load("work_dirs/msn_digits/extract/features.npz")["features"]
    cfg.merge_from_dict({k: int(v) for k, v in (o.split("=") for o in FEW)})
    np.testing.assert_array_equal(rows, extract(trained, labelled_data(cfg).query))


def test_mistakes_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = "configs/msn_digits.py"
    for arguments, words in (
        ([digits, "absent.pth"], "no such checkpoint: 'absent.pth'"),
        (["configs/msn_folder.py", "none"], "names no labelled data"),
        ([digits, "none", "--images", "gone"], "data folder gone does not exist"),
        ([digits, "none", "--labels", "folder"], "give --images DIR too"),
        ([digits, "none", "--batch-size", "0"], "--batch-size: '0' is not a whole number"),
        ([digits, "none", "--workers", "-1"], "--workers: '-1' is not a whole number"),
        ([digits, "none", "--blocks", "9"], "9 blocks were asked for and the backbone has 4"),
        ([digits, "none", "--mask-ratio", "1"], "--mask-ratio: '1' is not between 0 and 1"),
        (["configs/eval/raw_pixels.py", "none", "--norm"], "names no labelled data"),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(main, arguments)
        said = capsys.readouterr()
        assert end.value.code == 2 and len(said.err.splitlines()) == 1, said.err
        assert said.err.startswith("error: ") and words in said.err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need pyarrow: pip install 'msn_mm\[parquet\]'"):
        main([digits, "none", "--format", "parquet"])
    assert not Path("work_dirs").exists()


def _options(*arguments: str) -> argparse.Namespace:
    parser = ArgumentParser(prog="any.py")
    add_extraction_options(parser)
    return parser.parse_args(arguments)


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    got = start_extraction(_options("--blocks", "3", "--norm", "--amp", "--batch-size", "7"))
    assert got.readout == ReadOut(3, True) and got.amp and got.batch_size == 7 and got.is_first
    assert got.cache is not None and str(got.cache.directory) == "work_dirs/features"
    assert start_extraction(_options("--no-cache")).cache is None
    with pytest.raises(UserError, match="not allowed with"):
        _options("--no-cache", "--cache", "x")
    # under torchrun it joins by itself, and misses the rest of torchrun's variables here
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="--launcher pytorch, but the environment has no RANK"):
        start_extraction(_options())


def test_help_is_there_before_anything_heavy() -> None:
    code = (
        "import runpy, sys; sys.argv = ['extract.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'tools' / 'extract.py')!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    print(sorted({'torch', 'numpy', 'mmengine'} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        timeout=60,
    )
    assert "--no-cache" in ended.stdout and ended.stdout.splitlines()[-1] == "[]"


def test_the_mask_of_the_tool_is_extraction_s() -> None:
    tool("none", "--part", "query", "--mask-ratio", "0.5", "--seed", "4", "--workers", "0")
    cfg = load_config("configs/msn_digits.py")
    cfg.merge_from_dict({k: int(v) for k, v in (o.split("=") for o in (*TINY, *FEW))})
    want = extract(build_encoder(cfg, None), labelled_data(cfg).query, mask=Mask(0.5, seed=4))
    rows = np.load("work_dirs/msn_digits/extract/features.npz")["features"]
    np.testing.assert_array_equal(rows, want)


@pytest.mark.slow
def test_two_processes_by_torchrun_write_the_same_file(tmp_path: Path) -> None:
    tool("none", "--no-cache")
    alone = np.load("work_dirs/msn_digits/extract/features.npz")
    script = [str(ROOT / "tools" / "extract.py"), "configs/msn_digits.py", "none", "--no-cache"]
    run = [sys.executable, "-m", "msn_mm.utils.torchrun", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*run, *script, "--out", "two", "--batch-size", "7", "--cfg-options", *TINY, *FEW],
        capture_output=True,
        text=True,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    two = np.load("two/features.npz")
    assert all(np.array_equal(two[name], alone[name]) for name in alone)
    assert ended.stdout.count("features.npz") == 1
    assert json.loads(Path("two/results.json").read_text())["settings"]["processes"] == 2
