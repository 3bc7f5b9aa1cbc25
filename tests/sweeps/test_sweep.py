"""tools/sweep.py: what it trains, goes on with, refuses and prints; trainings are stood in for."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from PIL import Image

from msn_mm.datasets import Digits
from msn_mm.sweeps.measuring import spread_over_seeds
from tests.sweeps.place import SWEEP, TINY, Place, tool


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


def test_other_images_are_measured_anew(place: Place, tmp_path: Path) -> None:
    """Of the same names, in the same place: the labels of two classes change sides."""
    for part in ("support", "query"):
        digits = Digits(split="pretrain" if part == "support" else "test")
        for i in range(200):
            info = digits.get_data_info(i)
            if info["gt_label"] < 2:
                file = tmp_path / "data" / part / str(info["gt_label"]) / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(info["img"][..., 0]).save(file)
    options = {k: v for k, v in TINY.items() if not k.startswith("test_dataloader")}
    parts = {
        part: dict(
            type="ImageFolder", data_root=f"{tmp_path}/data/{part}", labels="folder", _delete_=True
        )
        for part in ("support", "query")
    }
    for part, dataset in parts.items():
        options |= {f"test_dataloader.dataset.{part}": dataset}
    place.file.write_text(SWEEP.replace(repr(TINY), repr(options)))
    place.sweep("--seeds", "0", "--only", "MSN")
    columns = ("1", "knn 5")
    before = place.results["metrics"]["rows"]["MSN"]["columns"]
    query = tmp_path / "data" / "query"
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (query / old).rename(query / new)
    place.sweep("--seeds", "0", "--only", "MSN")
    after = place.results["metrics"]["rows"]["MSN"]["columns"]
    assert len(place.calls) == 1
    for column in columns:
        one, other = before[column]["top1_mean"], after[column]["top1_mean"]
        assert one > 50 and one + other == pytest.approx(100)


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("runs = [", "run = ["), "unknown key 'run'. Did you mean 'runs'?"),
        (('label="MSN",', 'labl="MSN",'), "unknown key 'labl'. Did you mean 'label'?"),
        (('label="MSN, lambda 5"', 'label="MSN"'), "share the directory 'msn'"),
        (("me_max_weight", "me_max_wait"), "run 'MSN, lambda 5': --cfg-options"),
        (("seeds = [0, 3]", "seeds = [-1]"), "give whole numbers of 0 or more"),
        (("evaluation = dict", "evaluation = [1] or dict"), "evaluation is [1]; give dict(knn="),
        (('label="MSN",', 'label="raw pixels",'), "'raw pixels' is the name of a row that is not"),
        (('label="MSN",', 'label="untrained encoder",'), "give the run another label"),
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
