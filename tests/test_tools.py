"""The command lines, run as a user runs them."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from toy_training import write_config

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, parse_value, run_tool

ROOT = Path(__file__).resolve().parent.parent


def run(
    command: Sequence[str | Path], cwd: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command away from the repository, with the toy importable and without a GPU."""
    settings = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        **(environ or {}),
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=settings,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("None", None),
        ("'3'", "3"),
        ("1,2", [1, 2]),
        ("(1, 2)", (1, 2)),
        ("[a, b]", ["a", "b"]),
        ("dict", "dict"),
        ("{'a': 1}", {"a": 1}),
        ("/my images/a,b", "/my images/a,b"),
        ("", ""),
    ],
)
def test_option_values_are_read_as_python(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_a_tilde_of_a_place_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = ArgumentParser(prog="tool")
    for name in ("out", "work-dir", "cache"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--resume", nargs="?", const=True)
    args = parser.parse_args(["--out=~/a", "--work-dir=~", "--cache", "~/c", "--resume"])
    assert (args.out, args.work_dir) == (f"{tmp_path}/a", str(tmp_path))
    assert args.cache == f"{tmp_path}/c" and args.resume is True
    assert parser.parse_args(["--out", "a~"]).out == "a~"
    with pytest.raises(UserError, match="--out: '~nobody-here/x' is no path"):
        parser.parse_args(["--out=~nobody-here/x"])


def test_what_is_checked_is_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save(tmp_path / "image.png")
    main = runpy.run_path(str(ROOT / "tools" / "show_views.py"))["main"]
    words = ["configs/msn_digits.py", "image.png", "--epochs", "1", "--out=~/x"]
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write to --out .*home is a file"):
        main(words)
    (tmp_path / "home").unlink()
    assert main(words) == 0
    assert (tmp_path / "home" / "x" / "views.png").is_file() and not Path("~").exists()


def test_options_add_up() -> None:
    parser = ArgumentParser(prog="tool")
    add_cfg_options(parser)
    args = parser.parse_args(["--cfg-options", "a.b=1", "c=x=y", "--cfg-options", "d=2"])
    assert args.cfg_options == {"a.b": 1, "c": "x=y", "d": 2}
    assert parser.parse_args([]).cfg_options == {}
    with pytest.raises(UserError, match="takes key=value, not 'word'"):
        parser.parse_args(["--cfg-options", "word"])


@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [
        (UserError("a line\n  of two"), 2, "error: a line of two\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_a_tool_ends_with_a_line_and_a_status(
    failure: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: Sequence[str] | None) -> int:
        raise failure

    with pytest.raises(SystemExit) as end:
        run_tool(main, [])
    assert end.value.code == status
    assert capsys.readouterr().err == words


def test_only_the_first_process_of_a_machine_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: Sequence[str] | None) -> int:
        raise UserError("said once")

    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        run_tool(main, [])
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback() -> None:
    def main(argv: Sequence[str] | None) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_tool(main, [])


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "ü"), ("ascii", "\\xfc")])
def test_names_that_standard_output_cannot_encode_are_escaped(
    tmp_path: Path, encoding: str, shown: str
) -> None:
    code = "from msn_mm.utils.cli import run_tool; run_tool(lambda argv: print('ü caf\\udce9'))"
    strict = {"PYTHONIOENCODING": f"{encoding}:strict"}
    ended = run([sys.executable, "-c", code], tmp_path, strict)
    assert (ended.returncode, ended.stdout) == (0, f"{shown} caf\\udce9\n"), ended.stderr


def test_train_writes_results_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(write_config(tmp_path))
    train = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    assert train([config, "--out", "out"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["tool"] == "train"
    assert results["checkpoint"] == "out/epoch_2.pth"
    assert results["metrics"]["loss"] > 0
    assert results["metrics"]["images_per_s"] > 0
    assert "images_per_s:" in printed
    assert "results:    out/results.json" in printed

    more = ["--cfg-options", "train_cfg.max_epochs=3"]
    assert train([config, "--work-dir", "out", "--resume", *more]) == 0
    saved = torch.load(tmp_path / "out" / "epoch_3.pth", weights_only=True)
    assert (saved["meta"]["epoch"], saved["meta"]["iter"]) == (3, 12)
    with pytest.raises(UserError, match="no whole checkpoint in 'elsewhere'"):
        train([config, "--out", "elsewhere", "--resume"])


def test_train_tells_a_mistake_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    train = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    for arguments, words in (
        (["no_such.py"], "error: no such config: 'no_such.py'"),
        (["a.py", "--seed", "x"], "error: argument --seed: 'x' is not a whole number"),
        ([], "error: the following arguments are required: config"),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(train, arguments)
        assert end.value.code == 2
        said = capsys.readouterr()
        assert said.err.startswith(words)
        assert len(said.err.splitlines()) == 1
        assert said.out == ""


def test_two_gloo_processes_train_from_any_directory(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    dist = ["bash", ROOT / "tools" / "dist_train.sh", config, "2", "--out", "out"]
    ended = run(dist, tmp_path)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["processes"] == 2
    assert results["settings"]["global_batch"] == 4
    assert "2 a process x 2 processes" in ended.stdout
    saved = torch.load(tmp_path / "out" / "epoch_2.pth", weights_only=True)
    assert saved["meta"]["iter"] == 8  # as many steps as one process takes

    # A mistake that every process meets is told once, without torchrun's report.
    # Restarts are for deaths: a mistake would only come back.
    mistaken = [*dist, "--max-restarts=2", "--cfg-options", "global_batch_size=5"]
    ended = run(mistaken, tmp_path)
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: global_batch_size=5 does not divide into 2 processes")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("dist_train.sh", ["toy.py"]), ("dist_train.sh", ["toy.py", "x"]), ("slurm_train.sh", ["p"])],
)
def test_a_script_without_its_arguments_shows_how(
    tmp_path: Path, script: str, arguments: list[str]
) -> None:
    ended = run(["bash", ROOT / "tools" / script, *arguments], tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"usage: {script} ")


def test_slurm_script_calls_srun_with_the_layout(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    ended = run(
        ["bash", ROOT / "tools" / "slurm_train.sh", "gpu", "job", "msn_vits16.py", "--amp"],
        tmp_path,
        {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GPUS": "16", "SRUN_ARGS": "-t 5"},
    )
    words = ended.stdout.split("\n")
    assert words[words.index("--ntasks") + 1] == "16"
    assert words[words.index("--ntasks-per-node") + 1] == "8"
    assert words[words.index("--gres") + 1] == "gpu:8"
    assert words[words.index("-t") + 1] == "5"
    assert words[-5:-1] == ["msn_vits16.py", "--launcher", "slurm", "--amp"]
