"""The tools on frozen features, from the command line to results.json, on real digits."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_digits
from PIL import Image
from safetensors.torch import load_file

import msn_mm
from msn_mm.datasets import Digits, EvaluationImages
from msn_mm.engine.launch import build_runner, load_config
from msn_mm.errors import UserError
from msn_mm.evaluation import low_shot_accuracy
from msn_mm.evaluation.low_shot_protocol import measure
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config of a tiny model on digits, and two checkpoints of it."""
    root = tmp_path_factory.mktemp("place")
    cfg = tiny_digits()
    cfg.test_dataloader.dataset.support.indices = SUPPORT
    cfg.test_dataloader.dataset.query.indices = 150
    cfg.dump(root / "tiny.py")
    for seed, name in enumerate(("one.pth", "two.pth"), start=1):
        torch.manual_seed(seed)
        torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, root / name)
    broken = torch.load(root / "one.pth", weights_only=True)
    broken["state_dict"]["target_backbone.vit.blocks.1.mlp.fc2.bias"][0] = float("nan")
    torch.save(broken, root / "nan.pth")
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call(tool: str, *words: str | Path) -> dict[str, Any]:
    """Run a tool in this process and return its results."""
    argv = [str(word) for word in words]
    out = argv[argv.index("--out") + 1] if "--out" in argv else f"out_{tool}"
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    plain = [] if "--workers" in argv else ["--workers", "0"]
    assert main([*argv, *plain, *([] if "--out" in argv else ["--out", out])]) == 0
    return json.loads((Path(out) / "results.json").read_text())


def flat(node: Any, name: str = "") -> dict[str, float]:
    """Return the numbers of nested dicts and lists by their places."""
    if not isinstance(node, dict | list):
        return {name: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return {place: x for key, one in items for place, x in flat(one, f"{name}.{key}").items()}


def pixels(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    data = Digits(split=split)
    info = [data.get_data_info(i) for i in range(count)]
    return (
        np.stack([x["img"].astype(np.float64).ravel() for x in info]),
        np.array([x["gt_label"] for x in info]),
    )


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return value


def test_lowshot_agrees_with_the_formula_on_features_taken_by_hand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = call("lowshot", "tiny.py", "one.pth", "--images-per-class", "1", "5", "--splits", "4")
    cfg = tiny_digits()
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load("one.pth", weights_only=True)["state_dict"])
    model.eval()

    def features(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        flat, labels = pixels(split, count)
        images = torch.from_numpy(flat.reshape(-1, 1, 32, 32)).float()
        normal = (images - cfg.model.data_preprocessor.mean[0]) / cfg.model.data_preprocessor.std[0]
        with torch.no_grad():
            tokens = model.target_backbone.forward_intermediates(normal, blocks=1, norm=False)
        return tokens[0][0].numpy(), labels

    expected = low_shot_accuracy(
        *features("pretrain", SUPPORT), *features("test", 150), images_per_class=(1, 5), splits=4
    )
    for column in ("1", "5"):
        for key in ("top1", "top5", "top1_mean", "top1_std", "lambd"):
            assert results["metrics"][column][key] == pytest.approx(expected[column][key], abs=1e-9)
    assert (results["tool"], results["checkpoint"]) == ("lowshot", "one.pth")
    assert len(results["checkpoint_sha256"]) == 64
    said = capsys.readouterr().out
    values = results["metrics"]["5"]
    assert f"{values['top1_mean']:.1f} ± {values['top1_std']:.1f}" in said
    assert "top-5 accuracy (%)" in said and "fits, seconds in all" in said


def test_splits_are_saved_and_passed_back_in() -> None:
    call("lowshot", "tiny.py", "one.pth", "--images-per-class", "2", "--splits", "5")
    drawn = call("lowshot", "tiny.py", "one.pth", "--images-per-class", "2", "--splits", "3")
    files = sorted(Path("out_lowshot/splits").glob("2_*.txt"))
    assert [str(f) for f in files] == drawn["settings"]["split_files"] and len(files) == 3
    lines = [file.read_text().split() for file in files]
    assert [len(names) for names in lines] == [20, 20, 20] and lines[0] != lines[1]
    given = call("lowshot", "tiny.py", "one.pth", "--subset-file", *files, "--out", "again")
    assert without_seconds(given["metrics"]) == without_seconds(drawn["metrics"])
    assert given["settings"]["split_files"] == drawn["settings"]["split_files"]
    assert not Path("again/splits").exists()
    # What was given stays, in the directory of an earlier call too, and so does a user's own.
    own = files[0].with_name("2_77.txt")
    own.write_text(files[0].read_text())
    before = {file: file.read_text() for file in (*files, own)}
    one = call("lowshot", "tiny.py", "one.pth", "--subset-file", files[1], "--out", "out_lowshot")
    assert one["settings"]["split_files"] == [str(files[1])]
    call("lowshot", "tiny.py", "one.pth", "--images-per-class", "2", "--splits", "3")
    assert {file: file.read_text() for file in (*files, own)} == before
    Path("copy.txt").write_text(files[0].read_text())
    with pytest.raises(UserError, match=r"copy\.txt and .*2_00\.txt name the same images"):
        call("lowshot", "tiny.py", "one.pth", "--subset-file", *files, "copy.txt")


def test_a_fit_that_stops_short_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tiny.py", "one.pth", "--images-per-class", "13", "--splits", "1")
    call("lowshot", *words)
    assert "warning" not in capsys.readouterr().out
    call("lowshot", *words, "--lambd", "1e-9")
    assert "13 labels a class: 1 of 1 fits stopped short of the optimum" in capsys.readouterr().out


def test_rows_share_labels_and_may_be_any_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("resnet.py").write_text("model = dict(type='mmpretrain.ResNet', depth=18)\n")
    results = call(
        *("lowshot", "tiny.py", "one.pth", "two.pth", "none", "--splits", "2"),
        *("--images-per-class", "5", "--row", "configs/eval/raw_pixels.py", "none", "pixels"),
        *("--row", "resnet.py", "none"),
    )
    names = ["one.pth", "two.pth", "tiny, untrained", "pixels", "resnet, untrained"]
    assert list(results["metrics"]) == names
    assert results["checkpoint"] == ["one.pth", "two.pth", None, None, None]
    expected = low_shot_accuracy(
        *pixels("pretrain", SUPPORT), *pixels("test", 150), images_per_class=(5,), splits=2
    )
    # grey seen as RGB: the same directions, so the same classifier up to rounding
    assert results["metrics"]["pixels"]["5"]["top1"] == pytest.approx(
        expected["5"]["top1"], abs=1.0
    )
    tops = [results["metrics"][name]["5"]["top1"] for name in names]
    assert len({tuple(top) for top in tops}) == 5
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in names)


def test_regularisation_and_solver_reach_the_fits() -> None:
    words = ("tiny.py", "one.pth", "--images-per-class", "1", "5", "--splits", "2")
    strong = call("lowshot", *words, "--lambd", "9.5", "--solver", "qning-miso")
    assert strong["metrics"]["5"]["lambd"] == [9.5, 9.5]
    assert strong["settings"]["lambd"] == 9.5 and strong["settings"]["solver"] == "qning-miso"
    usual = call("lowshot", *words, "--lambd", "9.5")["metrics"]["5"]
    assert strong["metrics"]["5"]["gap"] != usual["gap"]
    chosen = call("lowshot", *words, "--lambd", "cv")["metrics"]
    assert chosen["5"]["lambd_from"] == ["cross-validation"] * 2
    # one image a class leaves nothing to validate on
    assert chosen["1"]["lambd_from"] == ["released"] * 2 and chosen["1"]["lambd"] == [0.0025] * 2


def test_a_row_sees_images_through_the_view_of_its_own_config() -> None:
    small = Path("small.py")
    small.write_text(
        "_base_ = ['tiny.py']\n"
        "test_dataloader = dict(dataset=dict(transform=dict(resize=16)))\n"
        "model = dict(backbone=dict(img_size=16))\n"
    )
    words = ("--images-per-class", "13", "--splits", "2")
    beside = call("lowshot", "tiny.py", "one.pth", *words, "--row", str(small), "none", "16 pixels")
    alone = call("lowshot", str(small), "none", *words)
    assert beside["metrics"]["16 pixels"]["13"]["top1"] == alone["metrics"]["13"]["top1"]


def test_learning_from_masked_images_is_put_beside_whole_ones() -> None:
    words = ("tiny.py", "one.pth", "--images-per-class", "13", "--splits", "2")
    results = call("lowshot", *words, "--mask-ratio", "0.5", "0.9")
    values = results["metrics"]["13"]
    assert list(values["masked"]) == ["0.5", "0.9"]
    for masked in values["masked"].values():
        delta = np.subtract(masked["top1"], values["top1"])
        assert masked["top1_delta"] == pytest.approx(delta.tolist())
        assert masked["top1_delta_mean"] == pytest.approx(delta.mean())
    whole = call("lowshot", *words, "--out", "whole")
    assert whole["metrics"]["13"]["top1"] == values["top1"]
    # an encoder whose learnt images lose nine patches in ten knows less of whole ones
    assert values["masked"]["0.9"]["top1_delta_mean"] < -5


@pytest.mark.parametrize(
    ("name", "further"),
    [("lowshot", ("--splits", "2")), ("masking", ("--max-images", "50", "--masks", "2"))],
)
def test_numbers_do_not_depend_on_how_they_were_computed(
    name: str, further: tuple[str, ...], place: Path
) -> None:
    words = ("tiny.py", "one.pth", "--no-cache", "--mask-ratio", "0.5", *further)
    alone = call(name, *words, "--batch-size", "3")
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    tool = str(ROOT / "tools" / f"{name}.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc_per_node", "2", tool, *words, "--out", "pair", "--workers", "1"],
        env=environ,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    pair = json.loads((place / "pair" / "results.json").read_text())["metrics"]
    if name == "masking":
        assert flat(pair) == pytest.approx(flat(alone["metrics"]), rel=1e-5)
    else:
        assert without_seconds(pair) == without_seconds(alone["metrics"])
    assert done.stdout.count("results: ") == 1


def test_the_second_protocol_reads_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("tiny.py", "two.pth", "--cache", "kept")
    first = call("knn", *words, "--k", "5")

    def refuse(*_: Any) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(EvaluationImages, "__getitem__", refuse)
    again = call("knn", *words, "--k", "5", "9")
    assert again["metrics"]["5"] == first["metrics"]["5"] and "9" in again["metrics"]
    call("lowshot", *words, "--splits", "2")
    with pytest.raises(AssertionError, match="an image was read"):
        call("lowshot", *words, "--blocks", "2")


def test_knn_takes_the_usual_numbers_that_fit() -> None:
    results = call("knn", "tiny.py", "one.pth")
    assert list(results["metrics"]) == ["10", "20", "100", "200"]
    few = ["--cfg-options", "test_dataloader.dataset.support.indices=60"]
    assert list(call("knn", "tiny.py", "one.pth", *few)["metrics"]) == ["10", "20"]
    with pytest.raises(UserError, match=r"--k 201, but there are 200 labelled images"):
        call("knn", "tiny.py", "one.pth", "--k", "201")


@pytest.fixture(scope="module")
def training(place: Path) -> Path:
    """The directory of a training: two whole checkpoints, and a torn one after them."""
    root = place / "training"
    root.mkdir()
    for epoch, name in enumerate(("one.pth", "two.pth"), start=1):
        state = torch.load(place / name, weights_only=True)
        text = (place / "tiny.py").read_text()
        meta = {"cfg": text, "epoch": epoch, "iter": epoch, "saved_at": float(epoch)}
        torch.save({**state, "meta": meta, "message_hub": {}}, root / f"epoch_{epoch}.pth")
    whole = (root / "epoch_2.pth").read_bytes()
    (root / "epoch_3.pth").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("lowshot", ["--images-per-class", "1", "--splits", "1"]),
        ("knn", ["--k", "10"]),
        ("masking", ["--masks", "1", "--mask-ratio", "0.5", "--max-images", "8"]),
        ("transfer", ["--data", "data", "--labels", "20", "--splits", "1"]),
        ("extract", ["--part", "query"]),
        ("test", []),
        ("linear", ["--epochs", "1", "--global-batch", "64", "--features", "cls1"]),
        ("partial", ["--images-per-class", "2", "--splits", "1", "--epochs", "1", "--folds", "2"]),
    ],
)
def test_of_a_training_s_directory_the_newest_whole_checkpoint_is_taken_and_recorded(
    tool: str, words: list[str], training: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    workers = [] if tool == "test" else ["--workers", "0"]
    assert main(["tiny.py", "training", *words, *workers, "--out", f"of_{tool}"]) == 0
    results = json.loads((Path(f"of_{tool}") / "results.json").read_text())
    assert results["checkpoint"] == "training/epoch_2.pth"
    assert len(results["checkpoint_sha256"]) == 64
    assert "note: passing over epoch_3.pth: it was not written" in capsys.readouterr().out


def test_the_other_readers_take_a_training_s_directory_too(training: Path) -> None:
    found = msn_mm.extract_features("tiny.py", "training", "query", workers=0)
    wanted = msn_mm.extract_features("tiny.py", "training/epoch_2.pth", "query", workers=0)
    np.testing.assert_array_equal(found.features, wanted.features)
    convert = runpy.run_path(str(ROOT / "tools" / "convert.py"))["main"]
    assert convert(["training", "training.safetensors", "--to", "msn_mm"]) == 0
    assert convert(["training/epoch_2.pth", "epoch.safetensors", "--to", "msn_mm"]) == 0
    one, other = load_file("training.safetensors"), load_file("epoch.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    runner = build_runner(load_config("tiny.py"), work_dir="from_directory", load_from="training")
    assert runner.cfg.load_from == "training/epoch_2.pth"
    Path("torn").mkdir(exist_ok=True)
    shutil.copy("training/epoch_3.pth", "torn")
    with pytest.raises(UserError, match=r"'torn' has no whole checkpoint \(passing over epoch_3"):
        call("knn", "tiny.py", "torn")


def test_masking_gives_numbers_and_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tiny.py", "one.pth", "none", "--names", "a", "b", "--masks", "2")
    results = call("masking", *words, "--mask-ratio", "0.15", "0.9", "--max-images", "40")
    for measured in results["metrics"].values():
        ratios = measured["by_ratio"]
        assert measured["images"] == 40 and list(ratios) == ["0.15", "0.9"]
        assert 1 > ratios["0.15"]["mean"] > ratios["0.9"]["mean"] > -1
    with Image.open("out_masking/masking.png") as picture:
        assert len(picture.convert("L").getcolors()) > 10
    # another mask of the same images is another measurement
    once = call("masking", *words[:-1], "1", "--mask-ratio", "0.9", "--max-images", "40")
    for name, measured in once["metrics"].items():
        one = measured["by_ratio"]["0.9"]
        assert one["mean"] != results["metrics"][name]["by_ratio"]["0.9"]["mean"]
        assert one["masks"] == 1
    said = capsys.readouterr().out
    assert f"{results['metrics']['a']['by_ratio']['0.9']['mean']:.3f}" in said


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    """Digits as PNG files of another size: data/train/<class>, data/test/<class>."""
    for part, split, count in (("train", "pretrain", 120), ("test", "test", 60)):
        data = Digits(split=split, size=48)
        for i in range(count):
            info = data.get_data_info(i)
            path = place / "data" / part / str(info["gt_label"]) / f"{part}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(info["img"][..., 0]).save(path)
    return place / "data"


def test_transfer_to_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = call(
        "transfer", "tiny.py", "one.pth", "--data", folder, "--labels", "20", "all", "--splits", "2"
    )
    measured = results["metrics"]["data"]
    assert list(measured) == ["20 labels", "all labels"]
    assert [len(values["top1"]) for values in measured.values()] == [2, 1]
    assert measured["all labels"]["images"] == [120]
    # digits enlarged to 48 pixels come back to the model's 32: far from chance
    assert measured["all labels"]["top1"][0] >= 30
    assert "data, all labels" in capsys.readouterr().out
    named = (Path("out_transfer/splits/data") / "20-labels_00.txt").read_text().split()
    assert len(named) == 20 and all(name.startswith("train_") for name in named)


def test_the_seed_also_cuts_the_folds_of_a_transfer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def told(*args: Any, **kwargs: Any) -> Any:
        seeds.append(args[3].seed)
        return measure(*args, **kwargs)

    monkeypatch.setattr("msn_mm.evaluation.low_shot_protocol.measure", told)
    words = ("tiny.py", "one.pth", "--data", folder, "--labels", "20", "--splits", "1")
    call("transfer", *words, "--lambd", "cv", "--seed", "5")
    assert seeds == [5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lowshot", "one.pth", "--images-per-class", "30"], r"30 labelled .* class '\d' has \d+"),
        (["lowshot", "nan.pth"], r"features of \d+ of \d+ images are not finite"),
        (["knn", "nan.pth"], r"features of \d+ of \d+ images are not finite"),
        (["masking", "nan.pth"], r"features of image 0 .* NaN"),
        (["lowshot", "one.pth", "--subset-file", "gone.txt"], r"gone\.txt does not exist"),
        (["lowshot", "one.pth", "--subset-file", "odd.txt"], r"odd\.txt, line 2: 'cat\.jpg' is"),
        (
            ["lowshot", "one.pth", "--mask-ratio", "1.5"],
            r"--mask-ratio: '1\.5' is not between 0 and 1",
        ),
        (["lowshot", "one.pth", "--lambd", "-1"], r"--lambd: '-1' is neither"),
        (["lowshot", "one.pth", "--splits", "0"], r"--splits: '0' is not a whole number"),
        (["lowshot", "one.pth", "--fraction", "0"], r"fraction"),
        (["lowshot", "one.pth", "--seed", "-1"], r"--seed: '-1' is not a whole number"),
        (["lowshot", "one.pth", "--out", "one.pth"], r"cannot write to --out one\.pth"),
        (["lowshot", "one.pth", "--row", "tiny.py", "nan.pth", "--blocks", "3"], r"3 blocks"),
        (["masking", "one.pth", "--row", "configs/eval/raw_pixels.py", "none"], r"masked images"),
        (["masking", "one.pth", "--images", "uneven/train/a"], r"there is 1 image"),
        (["masking", "one.pth", "--images", ""], r"empty name"),
        (["extract", "nan.pth"], r"features of \d+ of \d+ images are not finite"),
        (["transfer", "one.pth", "--data", "data", "./data"], r"two data sets called 'data'"),
        (["lowshot", "one.pth", "--images-per-class", "0"], r"--images-per-class: '0' is not"),
        (["lowshot", "one.pth", "--blocks", "3"], r"3 blocks .* has 2"),
        (["lowshot", "odd.txt"], r"not a whole checkpoint"),
        (["transfer", "one.pth", "--data", "cifar11"], r"no data set.*Did you mean 'cifar10'"),
        (["transfer", "one.pth", "--data", "data", "--labels", "15"], r"multiple of 10"),
        (["transfer", "one.pth", "--data", "data", "--labels", "few"], r"--labels is 'few'"),
        (["transfer", "one.pth", "--data", "uneven"], r"class 'b'"),
    ],
)
def test_mistakes_get_one_line(words: list[str], message: str, folder: Path) -> None:
    Path("odd.txt").write_text("007\ncat.jpg\n")
    for name in ("train/a", "train/b", "test/a"):
        target = Path("uneven") / name
        target.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 80).save(target / f"{name[-1]}.png")
    tool, checkpoint, *rest = words
    with pytest.raises(UserError, match=message) as caught:
        call(tool, "tiny.py", checkpoint, *rest)
    assert "\n" not in str(caught.value)


def test_a_mistake_ends_a_tool_with_status_2(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "lowshot.py"), "tiny.py", "gone.pth"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no such checkpoint: 'gone.pth'")
    assert "Traceback" not in done.stderr


def test_notebook_calls_agree_with_the_tools(folder: Path) -> None:
    results = call("lowshot", "tiny.py", "one.pth", "--splits", "2")
    measured = msn_mm.evaluate_lowshot("tiny.py", "one.pth", splits=2, workers=0, cache=None)
    assert without_seconds(measured) == without_seconds(results["metrics"])
    found = msn_mm.extract_features("tiny.py", "one.pth", folder / "test", workers=0)
    assert found.features.shape == (60, 24) and set(found.labels.tolist()) == {-1}
    assert found.paths[0].startswith(f"{folder}/test/0/test_")
    parts = msn_mm.extract_features("tiny.py", "one.pth", "all", workers=0, blocks=2)
    assert parts.features.shape == (SUPPORT + 150, 48)
    assert parts.labels.tolist()[:3] == [0, 1, 2]


def test_the_largest_seed_is_taken_by_every_generator() -> None:
    words = ("--images-per-class", "2", "--splits", "1", "--lambd", "cv", "--seed", "2147483647")
    assert call("lowshot", "tiny.py", "one.pth", *words)["metrics"]["2"]["lambd_from"]
    with pytest.raises(
        UserError, match="--seed: '2147483648' is not a whole number from 0 to 2147"
    ):
        call("lowshot", "tiny.py", "one.pth", *words[:-1], "2147483648")


@pytest.mark.parametrize(
    "words",
    [
        *("train configs/msn_digits.py --seed", "finetune tiny.py one.pth --seed"),
        *("show_views tiny.py --index 0 --seed", "linear tiny.py one.pth --seed"),
        *("rcdm demo --seed", "rcdm train rcdm_digits.py one.pth --seed"),
        *("sweep configs/sweeps/zoo_digits.py --seeds 1", "extract tiny.py one.pth --seed"),
        *("partial tiny.py one.pth --seed", "masking tiny.py one.pth --seed"),
        *("transfer tiny.py one.pth --seed", "robustness tiny.py one.pth --seed"),
        *("report . --seed", "lowshot tiny.py one.pth --seed"),
    ],
)
def test_a_seed_that_is_too_large_is_refused_everywhere(words: str) -> None:
    tool, *rest = words.split()
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    with pytest.raises(UserError, match=r"--seeds?: '4294967296' is not a whole number from 0 to"):
        main([*rest, "4294967296", "--no-such-option"])  # nothing starts, whatever is taken


def test_options_change_a_copy_of_a_loaded_config(folder: Path) -> None:
    cfg = load_config("tiny.py")
    before = cfg.pretty_text
    options = {"test_dataloader.dataset.query.indices": 60}
    few = msn_mm.extract_features(cfg, "one.pth", workers=0, cfg_options=options)
    by_path = msn_mm.extract_features("tiny.py", "one.pth", workers=0, cfg_options=options)
    assert len(few.paths) == 60 and few.paths == by_path.paths
    one, other = (
        msn_mm.evaluate_lowshot(config, "one.pth", (1,), 1, workers=0, cfg_options=options)
        for config in (cfg, "tiny.py")
    )
    assert without_seconds(one) == without_seconds(other)
    whole = msn_mm.evaluate_lowshot(cfg, "one.pth", (1,), 1, workers=0)
    assert one["1"]["top1"] != whole["1"]["top1"]
    with pytest.raises(UserError, match="quary"):
        options = {"test_dataloader.dataset.quary.indices": 7}
        msn_mm.extract_features(cfg, "one.pth", workers=0, cfg_options=options)
    assert cfg.pretty_text == before


def test_the_package_itself_is_light() -> None:
    code = "import sys, msn_mm; assert not {'torch', 'mmengine', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
