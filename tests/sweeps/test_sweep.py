"""tools/sweep.py: what it trains, goes on with, refuses and prints; trainings are stood in for."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from msn_mm.engine.launch import load_config
from msn_mm.evaluation.encoder import build_model
from msn_mm.sweeps.measuring import spread_over_seeds
from msn_mm.utils.cli import run_tool

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model.backbone.depth": 1,
    "model.backbone.embed_dim": 24,
    "model.head.hidden_dim": 16,
    "train_cfg.max_epochs": 2,
    "param_scheduler.0.end": 1,
    "param_scheduler.1.begin": 0,
    "test_dataloader.dataset.support.indices": 100,
    "test_dataloader.dataset.query.indices": 30,
}
SWEEP = f"""
title = "a try"
config = "configs/msn_digits.py"
seeds = [0, 3]
options = {TINY!r}
runs = [
    dict(label="MSN", published=50.5),
    dict(label="MSN, lambda 5", options={{"model.loss.me_max_weight": 5.0}}),
]
published = "published"
evaluation = dict(images_per_class=(1, 2), splits=3, knn=(5,))
"""


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place:
    """A sweep file, its directory, and tools that train in no time."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.out = root / "out"
        self.tools = root / "tools"
        self.tools.mkdir()
        shutil.copy(Path(__file__).with_name("stand_in_train.py"), self.tools / "train.py")
        shutil.copy(ROOT / "tools" / "sweep.py", self.tools)
        shutil.copy(ROOT / "tools" / "slurm_train.sh", self.tools)
        shutil.copy(weights, self.tools / "weights.pth")
        self.file = root / "try.py"
        self.file.write_text(SWEEP)
        self.does()

    def does(self, **what: str) -> None:
        named = {key.replace("__", "/"): value for key, value in what.items()}
        (self.tools / "does.json").write_text(json.dumps(named))

    def sweep(self, *words: str) -> int:
        spec = importlib.util.spec_from_file_location("tool_sweep", self.tools / "sweep.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main([str(self.file), "--out", str(self.out), *words])

    def refused(self, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
        with pytest.raises(SystemExit) as stop:
            run_tool(lambda _: self.sweep(*words))
        assert stop.value.code == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("error: ")
        return said[0]

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self.tools / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.out / "results.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of the tiny model."""
    cfg = load_config("configs/msn_digits.py", TINY)
    state = build_model(cfg.model, 7, wants_weights=True).state_dict()
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    meta = {"epoch": 1, "iter": 20}
    torch.save({"state_dict": state, "optimizer": {}, "message_hub": {}, "meta": meta}, path)
    return path


@pytest.fixture
def place(tmp_path: Path, weights: Path) -> Iterator[Place]:
    yield Place(tmp_path, weights)


def test_a_sweep_trains_measures_and_is_not_repeated(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.sweep() == 0
    said = capsys.readouterr().out
    names = [call["name"] for call in place.calls]
    # a seed at a time, so that a sweep cut short has compared all runs
    assert names == ["msn/seed_0", "msn_lambda_5/seed_0", "msn/seed_3", "msn_lambda_5/seed_3"]
    args = tool("train").parse_args(place.calls[1]["argv"])
    assert args.config == "configs/msn_digits.py" and args.seed == 0 and not args.resume
    assert args.cfg_options == {**TINY, "model.loss.me_max_weight": 5.0}

    rows = place.results["metrics"]["rows"]
    assert list(rows) == ["raw pixels", "untrained encoder", "MSN", "MSN, lambda 5"]
    kept = [
        json.loads((place.out / f"msn/seed_{seed}/evaluation.json").read_text())["metrics"]
        for seed in (0, 3)
    ]
    for column in ("1", "2", "knn 5"):
        of_seeds = [one["values"][column] for one in kept]
        assert rows["MSN"]["columns"][column]["top1"] == of_seeds
        assert rows["MSN"]["columns"][column]["top1_mean"] == statistics.mean(of_seeds)
        assert "top1_std" not in rows["raw pixels"]["columns"][column]
    # one encoder with other random weights each seed
    untrained = rows["untrained encoder"]["columns"].values()
    assert sum(spread["top1_std"] for spread in untrained) > 0
    assert rows["raw pixels"]["columns"]["knn 5"]["top1_mean"] > 60
    assert [line for line in said.splitlines() if line.startswith("MSN ")][-1].endswith("50.5")
    assert "1 label a class" in said and "5-NN" in said and "does not beat 'untrained" in said
    assert Image.open(place.out / "sweep.png").width > 500

    before = place.results["metrics"]["rows"]
    assert place.sweep() == 0
    assert len(place.calls) == 4 and place.results["metrics"]["rows"] == before
    # fewer seeds need no new training either
    assert place.sweep("--seeds", "3") == 0
    assert len(place.calls) == 4
    assert place.results["metrics"]["rows"]["MSN"]["trained_seeds"] == [3]


def test_the_numbers_are_those_of_the_low_shot_and_knn_tools(place: Place, tmp_path: Path) -> None:
    assert place.sweep("--seeds", "0") == 0
    row = place.results["metrics"]["rows"]["MSN"]["columns"]
    words = ["configs/msn_digits.py", str(place.out / "msn/seed_0/epoch_2.pth"), "--no-cache"]
    options = ["--workers", "0", "--cfg-options", *(f"{k}={v}" for k, v in TINY.items())]
    shots = ["--images-per-class", "1", "2", "--splits", "3", "--out", str(tmp_path / "low")]
    assert tool("lowshot").main([*words, *shots, *options]) == 0
    found = json.loads((tmp_path / "low/results.json").read_text())["metrics"]
    assert tool("knn").main([*words, "--k", "5", "--out", str(tmp_path / "knn"), *options]) == 0
    voted = json.loads((tmp_path / "knn/results.json").read_text())["metrics"]
    assert {c: v["top1_mean"] for c, v in row.items()} == {
        **{count: found[count]["top1_mean"] for count in ("1", "2")},
        "knn 5": voted["5"]["top1"],
    }


def test_mean_and_deviation_are_over_seeds() -> None:
    spread = spread_over_seeds([{"1": 40.0}, {"1": 43.0}, {"1": 49.0}])["1"]
    assert spread["top1_mean"] == 44.0
    assert spread["top1_std"] == pytest.approx(21.0**0.5)  # (16 + 1 + 25) / 2


def test_a_failed_run_is_told_and_the_others_go_on(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.does(msn__seed_0="fail", msn_lambda_5__seed_0="fail")
    assert place.sweep("--seeds", "0", "3") == 1
    said = capsys.readouterr().out
    log = place.out / "msn/seed_0/output.log"
    assert f"failed: status 1: error: no such data; log: {log}" in said
    assert "a line of the log" in log.read_text()
    assert "1 of 2" in said and len(place.calls) == 4
    assert [line.partition(":")[0] for line in place.results["metrics"]["failures"]] == [
        "MSN, seed 0",
        "MSN, lambda 5, seed 0",
    ]
    place.does()
    assert place.sweep() == 0
    assert len(place.calls) == 6


def test_an_unfinished_run_goes_on(place: Place) -> None:
    assert place.sweep("--seeds", "0") == 0
    (place.out / "msn/seed_0/results.json").unlink()
    assert place.sweep("--seeds", "0") == 0
    assert len(place.calls) == 3
    assert tool("train").parse_args(place.calls[2]["argv"]).resume is True
    # and one that left nothing whole begins anew
    (place.out / "msn/seed_0/results.json").unlink()
    (place.out / "msn/seed_0/epoch_2.pth").write_bytes(b"torn")
    assert place.sweep("--seeds", "0") == 0
    assert tool("train").parse_args(place.calls[3]["argv"]).resume is False


def test_a_changed_config_is_told_and_not_mixed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.sweep("--seeds", "0") == 0
    capsys.readouterr()
    told = place.refused("--cfg-options", "model.loss.me_max_weight=2.0", capsys=capsys)
    assert "model.loss.me_max_weight: 1.0 there, 2.0 now" in told and "msn/seed_0" in told
    assert len(place.calls) == 2
    # weights that are not those of the training are not measured
    (place.out / "msn/seed_0/evaluation.json").unlink()
    (place.out / "msn/seed_0/epoch_2.pth").write_bytes(b"others")
    assert place.sweep("--seeds", "0") == 1
    assert "is not what the training wrote" in capsys.readouterr().out


def test_a_training_of_another_s_is_left_alone(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = place.out / "msn/seed_0"
    theirs.mkdir(parents=True)
    (theirs / "results.json").write_text("{}")
    assert "no sweep began" in place.refused(capsys=capsys)
    assert not place.calls


def test_a_stopped_sweep_lets_its_training_save_and_goes_on(place: Place) -> None:
    place.does(msn_lambda_5__seed_0="slow")

    def stop_when_at_work() -> None:
        for _ in range(600):
            if (place.out / "msn_lambda_5/seed_0/at_work").exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    stopper = threading.Thread(target=stop_when_at_work)
    stopper.start()
    assert place.sweep() == 128 + signal.SIGTERM
    stopper.join()
    assert (place.out / "msn_lambda_5/seed_0/epoch_1.pth").is_file(), "it was let save"
    place.does()
    assert place.sweep() == 0
    assert [call["name"] for call in place.calls].count("msn/seed_0") == 1
    assert tool("train").parse_args(place.calls[2]["argv"]).resume is True


def test_two_sweeps_do_not_share_a_directory(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.out.mkdir()
    with (place.out / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "is in use by another sweep" in place.refused(capsys=capsys)
    assert not place.calls


def test_only_some_runs_are_trained_and_budgets_compared(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.file.write_text(
        SWEEP.replace('"model.loss.me_max_weight": 5.0', '"train_cfg.max_epochs": 1')
    )
    assert place.sweep("--only", "MSN", "--seeds", "0") == 0
    said = capsys.readouterr().out
    assert [call["name"] for call in place.calls] == ["msn/seed_0"]
    assert "budgets differ (40 steps x 64 images: MSN; 20 steps x 64 images: MSN, lambda 5)" in said
    assert "not trained (--only)" in said and "2,560" in said
    assert place.results["metrics"]["rows"]["MSN, lambda 5"]["columns"] == {}
    assert place.sweep("--dry-run", "--seeds", "0", "3") == 0
    states = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[-2:] for line in states] == [["finished", "new"], ["new", "new"]]
    assert len(place.calls) == 1
    assert "has no run 'MSM'. Did you mean 'MSN'?" in place.refused("--only", "MSM", capsys=capsys)


def test_slurm_is_given_the_runs_and_asked_for_them_later(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bin_ = place.tools / "bin"
    bin_.mkdir()
    # keeps its arguments; the job's number is that of the line
    (bin_ / "sbatch").write_text(
        f'#!/bin/bash\nprintf "%s\\t" "$@" >>{bin_}/jobs; echo >>{bin_}/jobs\n'
        f"echo Submitted batch job $(wc -l <{bin_}/jobs)\n"
    )
    (bin_ / "squeue").write_text(f'#!/bin/bash\ngrep -x "$3" {bin_}/held\n')
    for name in ("sbatch", "squeue"):
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    jobs = ["--jobs", "slurm:gpu", "--seeds", "0"]
    assert place.sweep(*jobs) == 0
    said = capsys.readouterr().out
    submitted = (bin_ / "jobs").read_text().splitlines()
    assert len(submitted) == 2 and "Slurm holds 2 of the trainings" in said
    words = submitted[1].split("\t")
    assert words[words.index("--partition") + 1] == "gpu"
    assert f"--output={place.out}/msn_lambda_5/seed_0/output.log" in words
    assert "model.loss.me_max_weight=5.0" in words[words.index("--wrap") + 1]
    # the first is at work, the second ended early
    (bin_ / "held").write_text("1\n")
    assert place.sweep(*jobs) == 0
    said = capsys.readouterr().out
    assert "job 1 is waiting or running" in said
    assert "job 2 ended before the training did" in said and "submitted again as job 3" in said
    # both are done: gathered
    (bin_ / "held").write_text("")
    for call in ("msn", "msn_lambda_5"):
        record = json.loads((place.out / call / "seed_0/run.json").read_text())
        argv = record["command"][3:]
        spec = importlib.util.spec_from_file_location("stand_in", place.tools / "train.py")
        assert spec is not None and spec.loader is not None
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["train.py", *argv])
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert place.sweep(*jobs) == 0
    assert len((bin_ / "jobs").read_text().splitlines()) == 3
    assert place.results["metrics"]["rows"]["MSN"]["trained_seeds"] == [0]
    with_blanks = place.sweep("--jobs", "slurm:gpu", "--out", f"{place.out}/a b", "--seeds", "0")
    assert with_blanks == 1 and "no blanks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("runs = [", "run = ["), "unknown key 'run'. Did you mean 'runs'?"),
        (('label="MSN",', 'labl="MSN",'), "unknown key 'labl'. Did you mean 'label'?"),
        (('label="MSN, lambda 5"', 'label="MSN"'), "share the directory 'msn'"),
        (("me_max_weight", "me_max_wait"), "run 'MSN, lambda 5': --cfg-options"),
        (("seeds = [0, 3]", "seeds = [-1]"), "give whole numbers of 0 or more"),
        (("knn=(5,)", "nkn=(5,)"), "unknown key 'nkn'. Did you mean 'knn'?"),
        (("knn=(5,)", "knn=(500,)"), "more neighbours than the 100 images"),
        (("splits=3", "splits=0"), "ask for at least 1"),
        (('"configs/msn_digits.py"', '"configs/msn_digit.py"'), "Did you mean"),
        (("title =", "baselines = ['raw_pixel']\ntitle ="), "Did you mean 'raw_pixels'?"),
        (("title =", "title = = "), "cannot read config"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(
    place: Place, change: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in SWEEP
    place.file.write_text(SWEEP.replace(*change))
    assert told in place.refused(capsys=capsys)
    assert not place.calls


def test_mistakes_on_the_command_line(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give local or slurm:PARTITION" in place.refused("--jobs", "slurm", capsys=capsys)
    assert "not a" in place.refused("--seeds", "x", capsys=capsys)
