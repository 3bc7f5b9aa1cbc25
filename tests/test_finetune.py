"""Fine-tuning on real digits: where it starts, that it repeats itself, resumes, and learns."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Watch, assert_same, run, tiny_digits, weights

from msn_mm.convert.classifier import load_classifier
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError
from msn_mm.evaluation.finetuning import classifier_test

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"model.backbone.embed_dim": 24, "model.backbone.depth": 2}


def options(**more) -> dict:
    return {
        **SIZES,
        "train_dataloader.dataset.dataset.indices": 64,
        "global_batch_size": 16,
        "base_batch_size": 16,
        "train_cfg.max_epochs": 3,
        "train_cfg.val_interval": 1000,
        "param_scheduler.0.end": 1,
        "param_scheduler.1.begin": 1,
        "default_hooks.checkpoint.interval": 1,
        "visualizer.vis_backends": [dict(type="LocalVisBackend")],
        **more,
    }


def tiny(**more):
    cfg = load_config("configs/finetune_digits.py")
    cfg.merge_from_dict(options(**more))
    return cfg


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A checkpoint of two epochs of MSN, whose target and online networks differ."""
    out = tmp_path_factory.mktemp("pre")
    without = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    run(tiny_digits(**{"train_cfg.max_epochs": 2, "param_scheduler": [], **without}), out)
    return out / "epoch_2.pth"


def tool(name: str):
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))["main"]


def as_words(settings: dict) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def test_it_starts_from_the_target_network_and_a_fresh_optimizer(pretrained, tmp_path):
    runner = build_runner(tiny(), work_dir=tmp_path, load_from=pretrained)
    seen = {}

    class Stop(Exception):
        pass

    class Look(Watch):
        def before_train(self, runner):
            seen.update(weights(runner))
            assert not runner.optim_wrapper.optimizer.state
            raise Stop

    runner.register_hook(Look(lambda *_: None))
    with pytest.raises(Stop):
        train(runner)
    state = torch.load(pretrained, weights_only=True)["state_dict"]
    trunk = {k: v for k, v in seen.items() if k.startswith("backbone.")}
    assert trunk
    for name, value in trunk.items():
        assert torch.equal(value, state[f"target_{name}"]), name
    assert any(not torch.equal(value, state[name]) for name, value in trunk.items())
    assert seen["head.fc.weight"].std() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("workers", [2])
def test_one_seed_gives_one_run_whatever_the_number_of_workers(pretrained, tmp_path, workers):
    results = []
    for number in (0, workers):
        cfg = tiny(**{"train_dataloader.num_workers": number})
        cfg.train_dataloader.persistent_workers = number > 0
        results.append(weights(run(cfg, tmp_path / str(number), load_from=pretrained)))
    assert_same(*results)


def test_a_run_cut_within_an_epoch_resumes_bitwise(pretrained, tmp_path):
    every = {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.by_epoch": False}
    whole = run(tiny(**every), tmp_path / "whole", load_from=pretrained)
    middle = tmp_path / "whole" / "iter_11.pth"
    assert middle.is_file()
    resumed = run(tiny(**every), tmp_path / "resumed", resume=middle)
    assert resumed.iter == whole.iter == 12
    assert_same(weights(whole), weights(resumed))
    assert_same(whole.optim_wrapper.state_dict(), resumed.optim_wrapper.state_dict())


def test_the_tool_reports_and_the_checkpoint_is_a_classifier(
    pretrained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = as_words({k: v for k, v in options().items() if "visualizer" not in k})
    words.append("train_cfg.val_interval=3")
    main = tool("finetune")
    config = "finetune_digits"
    assert main([config, str(pretrained), "--out", "out", "--cfg-options", *words]) == 0
    told = json.loads(Path("out/results.json").read_text())
    assert told["tool"] == "finetune" and told["checkpoint"] == "out/epoch_3.pth"
    assert told["settings"]["started_from"] == str(pretrained)
    rates = [layer["lr"] for layer in told["settings"]["layers"]]
    assert rates == pytest.approx([2e-3 * 0.65 ** (3 - layer) for layer in range(4)])
    assert 0 <= told["metrics"]["accuracy/top1"] <= 100
    assert "accuracy/top1" in capsys.readouterr().out
    log = next(Path("out").rglob("*.log")).read_text()
    # The printed table: a line a layer, the last being norm and head.
    header = "layer  learning rate     factor   parameters"
    lines = log[log.index(header) :].splitlines()[1:5]
    table = [line.rpartition("INFO - ")[2].split() for line in lines]
    assert [int(layer) for layer, *_ in table] == [0, 1, 2, 3]
    for layer, rate, factor, _ in table:
        assert float(factor) == pytest.approx(0.65 ** (3 - int(layer)), rel=1e-3)
        assert float(rate) == pytest.approx(2e-3 * 0.65 ** (3 - int(layer)), rel=1e-3)
    counted = sum(int(parameters.replace(",", "")) for *_, parameters in table)
    assert counted == sum(v.numel() for v in torch.load("out/epoch_3.pth")["state_dict"].values())

    # The same accuracy by tools/test.py, and by the classifier that load_classifier gives.
    size = ["--cfg-options", *as_words(SIZES)]
    assert tool("test")([config, "out/epoch_3.pth", "--out", "test", *size]) == 0
    again = json.loads(Path("test/results.json").read_text())["metrics"]
    assert again["accuracy/top1"] == told["metrics"]["accuracy/top1"]
    model = load_classifier("out/epoch_3.pth")
    cfg = load_config(config)
    from msn_mm.registry import DATASETS

    data = DATASETS.build(cfg.val_dataloader.dataset)
    images = torch.stack([data[i]["inputs"] for i in range(len(data))]).float() / 255
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (model.mean, model.std))
    with torch.no_grad():
        answers = model((images - mean) / std).argmax(1).numpy()
    labels = np.array([data[i]["data_samples"]["label"] for i in range(len(data))])
    assert 100 * (answers == labels).mean() == pytest.approx(again["accuracy/top1"], abs=0.21)

    # What was trained for other classes is told in one line.
    other = [*size, "model.head.num_classes=7"]
    with pytest.raises(UserError, match=r"head\.fc\.weight is \(10, 24\) there and \(7, 24\) here"):
        tool("test")([config, "out/epoch_3.pth", "--out", "test", *other])
    with pytest.raises(UserError, match="model has 7 classes and the training data 10 "):
        main([config, str(pretrained), "--out", "bad", *other])

    # A resume goes on, and needs no starting weights; other rates of the layers hold.
    decay = "optim_wrapper.paramwise_cfg.layer_decay_rate"
    again = [config, str(pretrained), "--out", "out", "--resume", "--cfg-options", *words]
    with pytest.raises(UserError, match=r"has 8 groups of parameters and this run 2; 'layer_0_"):
        main([*again, f"{decay}=1.0"])
    assert main([*again, "train_cfg.max_epochs=4", f"{decay}=0.5"]) == 0
    assert Path("out/epoch_4.pth").is_file()
    told = json.loads(Path("out/results.json").read_text())["settings"]["layers"]
    assert [layer["lr"] for layer in told] == pytest.approx(
        [2e-3 * 0.5 ** (3 - n) for n in range(4)]
    )
    assert [layer["factor"] for layer in told] == pytest.approx([0.5 ** (3 - n) for n in range(4)])
    groups = torch.load("out/epoch_4.pth", weights_only=True)["optimizer"]["param_groups"]
    shares = {group["layer"]: group["lr"] / groups[-1]["lr"] for group in groups}
    assert shares == pytest.approx({n: 0.5 ** (3 - n) for n in range(4)})


def test_a_config_of_no_classifier_is_refused(pretrained):
    with pytest.raises(UserError, match=r"trains no classifier .*; take one of configs/finetune_"):
        tool("finetune")(["msn_digits", str(pretrained)])


def test_different_classes_in_training_and_validation_are_refused(tmp_path):
    from PIL import Image

    for path in ("train/a", "train/b", "val/a", "val/c"):
        (tmp_path / path).mkdir(parents=True)
        Image.new("L", (32, 32)).save(tmp_path / path / "1.png")
    cfg = tiny(**{"model.head.num_classes": 2})
    for part in ("train", "val"):
        cfg[f"{part}_dataloader"].dataset.dataset = dict(
            type="ImageFolder", data_root=str(tmp_path / part), labels="folder"
        )
    cfg.global_batch_size = cfg.base_batch_size = 2
    with pytest.raises(UserError, match="class 'b' is in one of training and validation data only"):
        train(build_runner(cfg, work_dir=tmp_path / "out"))
    cfg.model.head.num_classes = 10
    with pytest.raises(UserError, match="model has 10 classes and the test data 2 "):
        build_runner(classifier_test(cfg), work_dir=tmp_path / "test").test()


@pytest.mark.slow
def test_fine_tuning_beats_the_linear_head(tmp_path):
    """15 epochs of MSN, then all labels: a linear head on frozen features, or all of it."""
    from sklearn.linear_model import LogisticRegression

    from msn_mm.evaluation.data import labelled_data
    from msn_mm.evaluation.encoder import build_encoder
    from msn_mm.evaluation.extraction import extract

    pre = load_config("configs/msn_digits.py", {"train_cfg.max_epochs": 15})
    pre.merge_from_dict({"param_scheduler.0.end": 2, "param_scheduler.1.begin": 2})
    without = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    bare = copy.deepcopy(pre)
    bare.merge_from_dict(without)
    run(bare, tmp_path / "pre")
    checkpoint = tmp_path / "pre" / "epoch_15.pth"
    data = labelled_data(pre)
    encoder = build_encoder(pre, checkpoint)
    support, query = (extract(encoder, part) for part in (data.support, data.query))
    scale = support.std()
    linear = max(
        LogisticRegression(C=c, max_iter=2000)
        .fit(support / scale, data.support_labels)
        .score(query / scale, data.query_labels)
        for c in (0.1, 1, 10, 100)
    )
    cfg = load_config("configs/finetune_digits.py", {"train_cfg.max_epochs": 25})
    runner = run(cfg, tmp_path / "out", load_from=checkpoint)
    tuned = runner.message_hub.get_scalar("val/accuracy/top1").current()
    print(f"linear head {100 * linear:.1f} %, fine-tuned {tuned:.1f} %")
    assert tuned > 100 * linear
