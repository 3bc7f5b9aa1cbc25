"""Linear evaluation as it runs: the recipe at its real size, and real trainings at a small one."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from PIL import Image
from torch.optim import SGD

from msn_mm.datasets import EvalCrop, LabelledCrop
from msn_mm.engine.batch import resolve_batch
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.schedule_ends import schedule_ends
from msn_mm.errors import UserError
from msn_mm.evaluation.linear_recipe import LinearOptions, linear_config
from msn_mm.registry import DATASETS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from tests.helpers import assert_same, tiny_digits

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared"))
SAMPLE = SHARED / "data" / "cifar10_sample"
SMALL = {
    "train_dataloader.dataset.dataset.indices": 300,
    "val_dataloader.dataset.dataset.indices": 120,
    "global_batch_size": 64,
    "train_cfg.max_epochs": 3,
    "train_cfg.val_interval": 3,
    "model.features": ["cls1", "cls4+avg"],
    "model.lr_scales": [1.0, 100.0],
    "visualizer.vis_backends": [dict(type="LocalVisBackend")],
}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("msn_mm")


def small(**options: Any) -> Any:
    return load_config("configs/linear_digits.py", {**SMALL, **options})


def folder(root: Path, parts: tuple[str, ...] = ("train", "val"), classes: int = 2) -> Path:
    for part in parts:
        for k in range(classes):
            (root / part / f"n{k}").mkdir(parents=True)
            Image.new("RGB", (300, 280), (40 * k, 90, 30)).save(root / part / f"n{k}" / "a.png")
    return root


def test_the_full_recipe_is_the_appendix_s(tmp_path: Path) -> None:
    """Appendix C.3, value by value, on what the shipped config builds."""
    root = folder(tmp_path)
    cfg = load_config("configs/linear_vits16.py", {"data_root": str(root / "train")})
    assert cfg.val_dataloader.dataset.dataset.data_root == str(root / "val")
    for processes in (1, 8, 64):
        plan = resolve_batch(cfg, processes)
        assert plan.process_batch * processes * plan.accumulation == plan.global_batch == 16384
        assert plan.lr_scale == 1
    assert resolve_batch(cfg, 8).process_batch == 256
    assert cfg.train_cfg.max_epochs == 100

    model = MODELS.build(cfg.model)
    assert model.num_classes == 1000 and len(model.head_names) == 21
    assert model.head_names[0] == "cls1 lr x1 (paper)"
    build = OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor)
    wrapper = build({k: v for k, v in cfg.optim_wrapper.items() if k != "constructor"})(model)
    optimizer = wrapper.optimizer
    assert type(optimizer) is SGD
    for group in optimizer.param_groups:
        assert group["nesterov"] and group["momentum"] == 0.9 and group["weight_decay"] == 0
    paper = next(g for g in optimizer.param_groups if g["name"] == "lr x1")
    assert paper["lr"] == 6.4 and model.heads.linears[0].weight in set(paper["params"])
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([6.4, 0.64, 1.92, 19.2, 64])

    (rate, _) = schedule_ends(cfg)
    assert rate.first == 6.4 and rate.highest == (6.4, 0.0) and 0 <= rate.last < 1e-3
    (cosine,) = cfg.param_scheduler
    assert cosine.type == "CosineAnnealingLR" and cosine.eta_min == 0

    crop = DATASETS.build(cfg.train_dataloader.dataset).transform
    assert isinstance(crop, LabelledCrop) and not crop.augment
    assert (crop.size, crop.flip, crop.scale) == (224, 0.5, (0.08, 1.0))
    centre = DATASETS.build(cfg.val_dataloader.dataset).transform
    assert isinstance(centre, EvalCrop)
    assert (centre.resize, centre.crop, centre.resize_mode) == (256, 224, "short")


def test_a_dry_run_tells_its_size() -> None:
    from msn_mm.utils.dry_run import dry_run, make_plan

    cfg = load_config("configs/linear_vits16.py")
    plan = make_plan(cfg, processes=8)
    # 6 heads on one token, 5 each on 4, on 1 + 1 and on 4 + 1; one layer norm.
    columns = 384 * (6 + 5 * 4 + 5 * 2 + 5 * 5)
    assert plan.trained == 1000 * (columns + 21) + 2 * 384
    assert "= 16384" in dry_run(cfg, 8) and "warning" not in dry_run(cfg, 8)


@pytest.mark.skipif(not (SHARED / "paper").is_dir(), reason="the appendix is not here")
def test_the_appendix_says_so() -> None:
    text = (SHARED / "paper" / "msn_appendix.txt").read_text()
    section = text.split("C.3 Linear Evaluation")[1].split("C.4 ")[0]
    said = ("16,384 images", "100 epochs", "learning rate of 6.4", "cosine", "224×224 pixels")
    said += ("random horizontal flips", "L₂-normalize", "Nesterov", "not apply any weight-decay")
    for words in (*said, "do not use any warmup"):
        assert words in section, words


def test_heads_learn_on_real_images_and_the_checkpoint_has_no_trunk(tmp_path: Path) -> None:
    options = {"train_cfg.max_epochs": 10, "train_cfg.val_interval": 1}
    cfg = small(**options, **{"model.features": ["cls1"]})
    # Pixels tell digits apart by themselves; a network of random weights does not.
    pixels = dict(type="RawPixels", in_channels=1)
    cfg.model.encoder = dict(model=pixels, data_preprocessor=dict(mean=[0.0], std=[1.0]))
    runner = build_runner(cfg, work_dir=tmp_path)
    train(runner)
    measured = runner.val_loop.evaluator.metrics[0].last
    assert measured["heads"][measured["best"]]["top1"] > 60
    first = float(runner.message_hub.get_scalar("val/linear/best_top1").data[0][0])
    assert measured["heads"][measured["best"]]["top1"] > first + 10
    saved = torch.load(tmp_path / "epoch_10.pth", weights_only=True)
    assert all(
        k.startswith("heads.") or k in ("trunk_digest", "head_list") for k in saved["state_dict"]
    )
    assert {g["name"] for g in saved["optimizer"]["param_groups"]} == {"lr x1", "lr x100"}


class Kill(Hook):
    """End a run behind an iteration."""

    priority = "LOWEST"

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == 6:
            raise KeyboardInterrupt


def test_a_stopped_run_ends_bitwise_where_a_whole_one_does_on_any_workers(tmp_path: Path) -> None:
    def content(out: Path) -> dict[str, Any]:
        saved = torch.load(out / "epoch_3.pth", weights_only=True)
        return {name: saved[name] for name in ("state_dict", "optimizer", "param_schedulers")}

    options = {"default_hooks.checkpoint.every_iters": 1}
    whole = build_runner(small(**options), work_dir=tmp_path / "whole")
    train(whole)
    runner = build_runner(small(**options), work_dir=tmp_path / "cut")
    runner.register_hook(Kill())
    with pytest.raises(KeyboardInterrupt):
        train(runner)
    workers = {"train_dataloader.num_workers": 2, "train_dataloader.persistent_workers": True}
    resumed = build_runner(small(**options, **workers), work_dir=tmp_path / "cut", resume=True)
    train(resumed)
    assert_same(content(tmp_path / "whole"), content(tmp_path / "cut"))
    one, other = (r.val_loop.evaluator.metrics[0].last for r in (whole, resumed))
    assert one == other

    other_trunk = small(**options, **{"model.encoder.cfg_options": {"model.backbone.depth": 5}})
    with pytest.raises(UserError, match="another trunk"):
        train(build_runner(other_trunk, work_dir=tmp_path / "cut", resume=True))


def test_classes_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model has 7 classes and the training data 10 .*=10"):
        train(build_runner(small(**{"model.num_classes": 7}), work_dir=tmp_path / "out"))
    root = folder(tmp_path / "images", classes=3)
    (root / "val" / "n2" / "a.png").unlink()
    (root / "val" / "n2").rmdir()
    options = {"data_root": str(root / "train"), "model.num_classes": 3, "global_batch_size": 2}
    options |= {"accumulation": 1, "train_dataloader.num_workers": 0, "model.features": ["cls1"]}
    options |= {"train_dataloader.persistent_workers": False}
    with pytest.raises(UserError, match="class 'n2' is in one of training and validation data"):
        cfg = load_config("configs/linear_vits16.py", options)
        train(build_runner(cfg, work_dir=tmp_path / "out2"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of a tiny model on digits, and its weights."""
    root = tmp_path_factory.mktemp("place")
    cfg = tiny_digits()
    cfg.test_dataloader.dataset.support.indices = 240
    cfg.test_dataloader.dataset.query.indices = 100
    cfg.dump(root / "tiny.py")
    torch.manual_seed(1)
    init_default_scope("msn_mm")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, root / "one.pth")
    return root


def call(*words: str, out: str = "out") -> dict[str, Any]:
    main = runpy.run_path(str(ROOT / "tools" / "linear.py"))["main"]
    assert main([*words, "--workers", "0", "--out", out]) == 0
    return json.loads(Path(out, "results.json").read_text())


def test_the_tool(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = ["tiny.py", "one.pth", "--epochs", "2", "--holdout", "0.2", "--flip", "0"]
    results = call(*words, "--lr-scales", "1", "30", "--layer-norm", "both")
    settings, metrics = results["settings"], results["metrics"]
    # Blocks 4 are more than the model has: what reads them is left out.
    assert {h.split()[0] for h in metrics["heads"]} == {"cls1", "cls1+avg"}
    assert len(metrics["heads"]) == 8
    assert settings["images"] == {"training": 191, "evaluation": 100, "held_out": 49}
    assert settings["global_batch"] == 32 and settings["iterations"] == 10
    assert settings["learning_rates"]["cls1 lr x1 (paper)"] == pytest.approx(6.4 * 32 / 16384)
    assert settings["train_view"]["size"] == 32 and settings["train_view"]["flip"] == 0
    assert settings["classes"] == 10 and results["checkpoint_sha256"]
    assert metrics["best"]["chosen_on"] == settings["chosen_on"] == "held-out training images"
    best = max(metrics["heads"].values(), key=lambda v: v["held_out_top1"])
    assert metrics["best"]["held_out_top1"] == best["held_out_top1"]
    assert metrics["paper"]["head"] == "cls1 lr x1 (paper)"
    said = capsys.readouterr().out
    assert "cls1 ln lr x1 (released)" in said and "held-out-top1" in said and "<- best" in said

    test = runpy.run_path(str(ROOT / "tools" / "test.py"))["main"]
    assert test(["out/linear.py", "out/epoch_2.pth", "--out", "test"]) == 0
    assert json.loads(Path("test/results.json").read_text())["metrics"] == metrics
    assert f"linear/paper_top1  {metrics['paper']['top1']:.2f}" in capsys.readouterr().out
    other = ["--cfg-options", "model.encoder.checkpoint=None"]
    with pytest.raises(UserError, match=r"trained on another trunk: give model\.encoder"):
        test(["out/linear.py", "out/epoch_2.pth", "--out", "test", *other])

    again = call(*words, "--lr-scales", "1", "30", "--layer-norm", "both", "--resume")
    assert again["metrics"] == metrics, "a run that is over is measured, not repeated"
    main = runpy.run_path(str(ROOT / "tools" / "linear.py"))["main"]
    more = [*words, "--workers", "0", "--out", "out", "--resume", "--lr-scales", "1"]
    with pytest.raises(UserError, match=r"'cls1 lr x30' is not among this run's\): resume with"):
        main([*more, "100", "--layer-norm", "both"])
    less = ["0.3" if word == "0.2" else word for word in more]
    with pytest.raises(UserError, match=r"share of 0\.2 and this run 0\.3, .* --holdout 0\.2 and"):
        main([*less, "30", "--layer-norm", "both"])
    parts = call(
        *words, "--lr-scales", "1", "30", "--layer-norm", "both", "--batch-size", "8", out="parts"
    )
    assert parts["settings"]["accumulation"] == 4
    assert parts["metrics"]["heads"].keys() == metrics["heads"].keys()
    one, other = (
        torch.load(Path(out, "epoch_2.pth"), weights_only=True)["state_dict"]
        for out in ("out", "parts")
    )
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_the_recipe_follows_the_data_and_a_linear_config_is_taken_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    cfg = linear_config("tiny.py", "one.pth", {"model.head.hidden_dim": 16}, LinearOptions())
    assert cfg.model.encoder.checkpoint == "one.pth" and cfg.model.num_classes == 10
    assert cfg.model.encoder.cfg_options == {"model.head.hidden_dim": 16}
    assert cfg.train_dataloader.dataset.transform.channels == 1
    assert cfg.val_dataloader.dataset.type == "LabelledViews"
    own = linear_config("configs/linear_digits.py", "one.pth", {}, LinearOptions(epochs=7))
    assert own.train_cfg.max_epochs == 7 and own.global_batch_size == 256
    assert own.train_dataloader.dataset.transform.flip == 0
    many = linear_config("configs/linear_digits.py", None, {}, LinearOptions(pass_batch=100), 2)
    assert many.accumulation == 2  # 128 a process: two passes of 64
    for processes in (3, 5, 7):
        odd = linear_config("tiny.py", None, {}, LinearOptions(), processes)
        assert resolve_batch(odd, processes).global_batch == 32 // processes * processes
    view = {"test_dataloader.dataset.transform.interpolation": "bicubic"}
    for options, kind in (({}, "bilinear"), (view, "bicubic")):
        cfg = linear_config("tiny.py", None, options, LinearOptions())
        assert cfg.train_dataloader.dataset.transform.get("interpolation") == kind
    with pytest.raises(UserError, match="names no labelled data"):
        linear_config("configs/msn_folder.py", None, {}, LinearOptions())


def test_mistakes_of_a_linear_config_are_one_line() -> None:
    def refused(told: str, options: dict[str, Any]) -> None:
        with pytest.raises(UserError, match=told):
            linear_config("configs/linear_digits.py", None, options, LinearOptions())

    flip = {"train_dataloader.dataset.transform.flip": 2}
    refused(r"LabelledCrop: .*flip must .*2", flip)
    refused("val_evaluator is 'Accuracy', .*=LinearMetric", {"val_evaluator.type": "Accuracy"})
    refused("names no labelled val_dataloader", {"val_dataloader": None})


@pytest.mark.slow
def test_several_checkpoints_are_one_table_and_resume_each(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    pixels = ["--row", "configs/eval/raw_pixels.py", "none", "pixels"]
    words = ["tiny.py", "one.pth", "none", *pixels, "--epochs", "1", "--flip", "0"]
    words += ["--lr-scales", "1", "--holdout", "0.2"]
    results = call(*words, out="rows")
    assert list(results["metrics"]) == ["one.pth", "tiny, untrained", "pixels"]
    assert results["checkpoint"] == ["one.pth", None, None] and results["checkpoint_sha256"][0]
    # One column of pixels; tokens of one block, with and without the mean, of the ViT.
    heads = {name: len(row["heads"]) for name, row in results["metrics"].items()}
    assert heads["one.pth"] == heads["tiny, untrained"] > heads["pixels"]
    for row in results["settings"]["rows"].values():
        assert row["images"] == {"training": 191, "evaluation": 100, "held_out": 49}
        assert row["train_view"]["channels"] == 1 or row is results["settings"]["rows"]["pixels"]
    said = capsys.readouterr().out
    table = said[said.index("top-1 ") :]
    for name, row in results["metrics"].items():
        assert re.search(rf"^{re.escape(name)} +{row['paper']['top1']:.2f} ", table, re.MULTILINE)
    alone = call(*words[:2], *words[7:], out="alone")
    assert alone["metrics"] == results["metrics"]["one.pth"], "a row is what it is by itself"

    # The first row is over, the last has not begun.
    for file in (place / "rows" / "3_pixels").glob("*.pth"):
        file.unlink()
    again = call(*words, "--resume", out="rows")
    assert again["metrics"] == results["metrics"]


def test_a_row_is_no_linear_evaluation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    linear = ["--row", "configs/linear_digits.py", "none"]
    with pytest.raises(UserError, match="a row takes a model's config"):
        call("tiny.py", "one.pth", *linear, out="bad")
    assert not list(Path("bad").rglob("*.pth")), "it is told before any row is trained"


def test_rows_are_one_table() -> None:
    from msn_mm.evaluation.linear_report import rows_table

    def row(paper: float, best: float) -> dict[str, Any]:
        chosen = "held-out training images"
        return {
            "paper": {"head": "cls1 lr x1 (paper)", "top1": paper},
            "best": {"head": "cls4 lr x3", "top1": best, "chosen_on": chosen},
        }

    lines = rows_table({"one": row(61.5, 70.25), "another": row(5, 6)}).splitlines()
    assert lines[0].split() == ["top-1", "paper", "released", "best", "best", "head"]
    assert lines[-3].split() == ["one", "61.50", "-", "70.25", "cls4", "lr", "x3"]
    assert lines[-2].split()[:2] == ["another", "5.00"]
    assert lines[-1] == "best: chosen on held-out training images"


def test_a_recipe_s_data_take_other_encoders() -> None:
    recipe = load_config("configs/linear_digits.py")
    cfg = linear_config(
        "configs/eval/raw_pixels.py", None, {}, LinearOptions(workers=0), data_of=recipe
    )
    assert cfg.global_batch_size == 256 and cfg.val_dataloader.dataset.dataset.type == "Digits"
    assert cfg.model.encoder.config.endswith("raw_pixels.py") and cfg.model.features == ["cls1"]
    assert cfg.train_dataloader.dataset.transform.channels == 3


@pytest.mark.slow
def test_two_processes_train_what_one_does(place: Path) -> None:
    found = []
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", str(processes), str(ROOT / "tools" / "linear.py")]
        command += ["tiny.py", "one.pth", "--epochs", "3", "--flip", "0", "--workers", "0"]
        command += ["--out", f"world{processes}", "--lr-scales", "1", "100", "--global-batch", "32"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=place, env=environ, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        saved = torch.load(place / f"world{processes}" / "epoch_3.pth", weights_only=True)
        results = json.loads((place / f"world{processes}" / "results.json").read_text())
        assert results["settings"]["processes"] == processes
        found.append((saved["state_dict"], results["metrics"]["heads"]))
    (one, heads), (two, others) = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4, msg=name)
    for head, values in heads.items():
        assert others[head]["top1"] == pytest.approx(values["top1"], abs=1.01)


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the CIFAR-10 sample is not here")
def test_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw pixels of ten kinds of photographs, classified far above chance."""
    monkeypatch.chdir(tmp_path)
    base = ROOT / "configs" / "eval" / "raw_pixels.py"
    part = "dict(type='ImageFolder', labels='folder', data_root={!r})"
    train_root, test_root = (str(SAMPLE / name) for name in ("train", "test"))
    Path("pixels.py").write_text(
        f"_base_ = [{str(base)!r}]\n"
        f"test_dataloader = dict(dataset=dict(type='LabelledImages',\n"
        f"    support={part.format(train_root)},\n    query={part.format(test_root)},\n"
        "    transform=dict(type='EvalCrop', resize=None, crop=None)))\n"
    )
    results = call("pixels.py", "none", "--epochs", "8", "--holdout", "0.1", "--scale", "0.6", "1")
    assert next(iter(results["metrics"]["heads"])) == "cls1 lr x1 (paper)"
    assert results["metrics"]["best"]["top1"] > 18
    assert re.fullmatch(r"cls1( ln)? lr x\S+( \(.*\))?", results["metrics"]["best"]["head"])
