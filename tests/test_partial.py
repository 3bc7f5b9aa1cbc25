"""tools/partial.py, from the command line to results.json, on real digits."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run, tiny_digits

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData, labelled_data
from msn_mm.evaluation.encoder import build_encoder
from msn_mm.evaluation.partial.protocol import Computing, measure_partial
from msn_mm.evaluation.partial.recipe import PartialRecipe
from msn_mm.evaluation.partial.table import better_of
from msn_mm.evaluation.splits import draw_splits
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["--epochs", "2", "--lrs", "0.003", "0.01", "--views", "2", "--flip", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config of a tiny model on digits, and two checkpoints of it."""
    root = tmp_path_factory.mktemp("place")
    cfg = tiny_digits()
    cfg.test_dataloader.dataset.support.indices = 200
    cfg.test_dataloader.dataset.query.indices = 150
    cfg.dump(root / "tiny.py")
    for seed, name in enumerate(("one.pth", "two.pth"), start=1):
        torch.manual_seed(seed)
        torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, root / name)
    (root / "resnet.py").write_text("model = dict(type='mmpretrain.ResNet', depth=18)\n")
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call(tool: str, *words: str, out: str = "out") -> dict[str, Any]:
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    assert main(["--workers", "0", *words, "--out", out]) == 0
    return json.loads(Path(out, "results.json").read_text())


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return value


def test_both_columns_and_the_better_one(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiny.py", "one.pth", "--images-per-class", "1", "3", "--splits", "2"]
    results = call("partial", *words, *QUICK)
    lowshot = call("lowshot", *words, out="lowshot")
    assert results["tool"] == "partial" and results["checkpoint"] == "one.pth"
    for column in ("1", "3"):
        measured = results["metrics"][column]
        assert without_seconds(measured["linear"]) == without_seconds(lowshot["metrics"][column])
        best = max(("linear", "partial"), key=lambda name: measured[name]["top1_mean"])
        assert measured["better"]["method"] == best
        assert measured["better"]["top1"] == measured[best]["top1"]
        assert measured["better"]["chosen_on"] == "evaluation images, which flatters it"
        own = measured["partial"]
        assert [len(own[key]) for key in ("top1", "top5", "chosen", "seconds")] == [2] * 4
        assert own["top1_mean"] == pytest.approx(np.mean(own["top1"]))
        assert own["top1_std"] == pytest.approx(np.std(own["top1"], ddof=1))
    few, more = (results["metrics"][column]["partial"] for column in ("1", "3"))
    assert [(c["lr"], c["epochs"], c["from"]) for c in few["chosen"]] == [(3e-3, 2, "default")] * 2
    assert {c["from"] for c in more["chosen"]} == {"cross-validation"}
    assert set(more["chosen"][0]["held_out_accuracy"]) == {
        "lr 0.003 x 2 epochs",
        "lr 0.01 x 2 epochs",
    }
    assert results["settings"]["partial"]["learning_rates"] == [0.003, 0.01]
    assert results["settings"]["split_files"] and results["settings"]["lambd"] == 0.0025
    said = capsys.readouterr().out
    assert "grid: learning rates 0.003 0.01 x epochs 2" in said
    assert "one.pth: 3 labels a class, split 1" in said and "fixed: nothing to hold out" in said
    for words_ in (
        "partial fine-tuning",
        "linear evaluation",
        "better of the two *",
        "by mean top-1",
    ):
        assert words_ in said
    assert f"{more['top1_mean']:.1f} ± {more['top1_std']:.1f}" in said

    # The same command again finds every training.
    repeated = call("partial", *words, *QUICK)
    trainings = 2 * (1 + 3 * 2 + 1)  # a split of one label: one; of three: three folds and one
    said = capsys.readouterr().out
    assert f"\n{trainings} trainings had been finished before and were not run again\n" in said
    for column in ("1", "3"):
        for strategy in ("partial", "better"):
            known = results["metrics"][column][strategy]
            assert repeated["metrics"][column][strategy] == known

    # What may differ in how, and not in what, is computed: store, workers, other columns.
    words[words.index("1")] = "3"
    how = ["--memory", "0.00001", "--workers", "1"]
    again = call("partial", *words, *QUICK, *how, out="how")["metrics"]["3"]
    assert "in a file below how" in again["partial"]["tokens"][0]
    assert "in memory" in more["tokens"][0] and not list(Path("how").glob(".tokens*"))
    for values in (again["partial"], more):
        values.pop("tokens")
    assert without_seconds(again) == without_seconds(results["metrics"]["3"])


def test_rows_and_saved_splits() -> None:
    one = ["--lrs", "0.01", *QUICK[:2], *QUICK[5:]]
    words = ["tiny.py", "one.pth", "two.pth", "--images-per-class", "2", "--splits", "2"]
    both = call("partial", *words, *one)
    assert list(both["metrics"]) == ["one.pth", "two.pth"]
    assert {c["from"] for c in both["metrics"]["two.pth"]["2"]["partial"]["chosen"]} == {"given"}
    files = both["settings"]["split_files"]
    given = call("partial", "tiny.py", "two.pth", "--subset-file", *files, *one, out="again")
    assert without_seconds(given["metrics"]) == without_seconds(both["metrics"]["two.pth"])


def test_every_row_is_measured_through_its_own_view() -> None:
    cfg = load_config("tiny.py")
    cfg.test_dataloader.dataset.transform.update(resize=14, crop=8, interpolation="bicubic")
    cfg.dump("other.py")
    one = ["--images-per-class", "3", "--splits", "1", "--lrs", "0.01", *QUICK[:2], *QUICK[5:]]
    alone = call("partial", "other.py", "one.pth", *one)["metrics"]["3"]
    both = call("partial", "tiny.py", "one.pth", "--row", "other.py", "one.pth", "cut", *one)
    assert without_seconds(both["metrics"]["cut"]["3"]) == without_seconds(alone)
    first = both["metrics"]["one.pth"]["3"]
    assert all(first[name]["top1"] != alone[name]["top1"] for name in ("partial", "linear"))


class Answers:
    """The held-out images of some data with other labels."""

    def __init__(self, data: LabelledData) -> None:
        self.__dict__.update(support=data.support, query=data.query, classes=data.classes)
        self.support_labels = data.support_labels
        self.query_labels = np.roll(data.query_labels, 1)


def test_held_out_labels_cannot_move_the_choice() -> None:
    cfg = tiny_digits()
    cfg.test_dataloader.dataset.support.indices = 200
    cfg.test_dataloader.dataset.query.indices = 150
    data = labelled_data(cfg)
    splits = draw_splits(data.support_labels, [5], splits=2)
    recipe = PartialRecipe((0.01,), epochs=(1, 4), folds=2, views=1, flip=0.0)

    def measured(known: Any) -> dict[str, Any]:
        encoder = build_encoder(cfg, "one.pth")
        return measure_partial(encoder, known, splits, recipe, Computing(workers=0))["5"]

    true, other = measured(data), measured(Answers(data))
    assert true["chosen"] == other["chosen"] and len(true["chosen"][0]["held_out_accuracy"]) == 2
    assert true["top1"] != other["top1"]


def test_a_network_of_random_weights_gains_by_its_last_block() -> None:
    """On real digits, far beyond where its training starts."""
    data = labelled_data(tiny_digits())
    encoder = build_encoder(tiny_digits(), "one.pth")
    before = {name: value.clone() for name, value in encoder.trunk.state_dict().items()}
    splits = draw_splits(data.support_labels, [13], splits=1)

    def top1(epochs: int) -> float:
        recipe = PartialRecipe([0.01], [epochs], views=4, scale=(0.6, 1.0), flip=0.0)
        return measure_partial(encoder, data, splits, recipe)["13"]["top1"][0]

    assert top1(60) > top1(1) + 20
    after = encoder.trunk.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(p.requires_grad for p in encoder.trunk.parameters())


def test_half_precision_halves_the_tokens() -> None:
    one = ["--images-per-class", "2", "--splits", "1", "--lrs", "0.01", *QUICK[:2], *QUICK[5:]]
    found = {}
    for words in ([], ["--amp"]):
        (told,) = call("partial", "tiny.py", "one.pth", *one, *words)["metrics"]["2"]["partial"][
            "tokens"
        ]
        found[bool(words)] = int(told.split()[0].replace(",", ""))
    # 20 images in 3 views of 17 tokens of 24 float32
    assert found == {False: 20 * 3 * 17 * 24 * 4, True: 20 * 3 * 17 * 24 * 2}


def test_the_command_line_says_the_recipe() -> None:
    args = runpy.run_path(str(ROOT / "tools" / "partial.py"))["parse_args"](["c.py", "w.pth"])
    recipe = PartialRecipe()
    assert (tuple(args.lrs), tuple(args.epochs)) == (recipe.learning_rates, recipe.epochs)
    assert (args.folds, args.views, args.flip) == (recipe.folds, recipe.views, recipe.flip)
    assert (tuple(args.scale), args.global_batch) == (recipe.scale, recipe.batch)
    assert args.seed == recipe.seed and args.memory * 2**30 == Computing().memory


def test_what_the_appendix_gives_is_that_of_fine_tuning() -> None:
    cfg, recipe = load_config("configs/finetune_vitb16.py"), PartialRecipe()
    optimizer, (rise, _) = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert optimizer.type == "AdamW" and optimizer.betas == recipe.betas
    assert optimizer.weight_decay == recipe.weight_decay
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == recipe.layer_decay
    assert cfg.model.head.loss.label_smooth_val == recipe.label_smoothing
    assert cfg.model.backbone.drop_path_rate == recipe.drop_path
    assert rise.end / cfg.train_cfg.max_epochs == recipe.warmup


def test_the_better_one() -> None:
    low, high = {"top1_mean": 3.0, "top1": [3.0]}, {"top1_mean": 4.0, "top1": [4.0], "images": [1]}
    assert better_of(low, high)["method"] == "linear"
    better = better_of(high, low)
    assert better["method"] == "partial" and better["top1"] == [4.0] and "images" not in better


MISTAKES = {
    "resnet.py none --images-per-class 1": "backbone ResNet has no last block",
    "tiny.py one.pth --row resnet.py none": "backbone ResNet has no last block",
    "tiny.py one.pth --scale 1 0.5": "--scale takes the lower number first",
    "tiny.py one.pth --folds 1": "--folds 1 holds nothing out",
    "tiny.py one.pth --images-per-class 30": r"30 labelled images per class were asked for",
    "tiny.py one.pth --subset-file a.txt --fraction 0.1": "--subset-file names the labelled",
    "tiny.py one.pth --lrs 1e30 --epochs 2 --images-per-class 2": "diverged at lr 1e.30 x 2 epochs",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line(words: str) -> None:
    with pytest.raises(UserError, match=MISTAKES[words]) as error:
        call("partial", *words.split(), "--views", "0", "--splits", "1", out="wrong")
    assert "\n" not in str(error.value)
    assert not Path("wrong", "results.json").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on() -> None:
    words = ["tiny.py", "one.pth", "--images-per-class", "3", "--splits", "4", *QUICK]
    whole = call("partial", *words, out="whole")["metrics"]
    command = [sys.executable, str(ROOT / "tools" / "partial.py"), "--workers", "0", *words]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kept = Path("killed", "trainings.json")
    for number in range(1, 4):
        with subprocess.Popen([*command, "--out", "killed"], env=environ) as process:
            while process.poll() is None and answered(kept) < 6 * number:
                time.sleep(0.002)
            process.kill()
        assert process.returncode == -signal.SIGKILL, "there was nothing left to kill"
        assert not Path("killed", "results.json").exists()
    found = answered(kept)
    assert 18 <= found < 4 * 8
    again = call("partial", *words, out="killed")["metrics"]
    assert without_seconds(again) == without_seconds(whole)
    assert not Path("killed", "trained").exists()


def answered(file: Path) -> int:
    return len(json.loads(file.read_text())["trainings"]) if file.is_file() else 0


@pytest.mark.slow
def test_several_processes_are_refused() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += ["2", str(ROOT / "tools" / "partial.py"), "tiny.py", "one.pth", "--out", "pair"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "error: partial.py trains on one process; start it without torchrun" in done.stderr


@pytest.mark.slow
def test_it_beats_the_linear_column_for_mae(tmp_path: Path) -> None:
    """MAE as configs/mae_digits.py trains it, and 13 labels a class."""
    config = str(ROOT / "configs" / "mae_digits.py")
    cfg = load_config(config)
    cfg.merge_from_dict(dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")))
    run(cfg, tmp_path)
    words = [config, str(tmp_path / "epoch_180.pth"), "--images-per-class", "13", "--splits", "3"]
    words += ["--lrs", "0.001", "--epochs", "100", "--scale", "0.6", "1", "--flip", "0"]
    measured = call("partial", *words, out=str(tmp_path / "out"))["metrics"]["13"]
    partial, linear = (measured[how]["top1"] for how in ("partial", "linear"))
    assert all(ours > theirs for ours, theirs in zip(partial, linear, strict=True))
