"""tools/rcdm.py from end to end on real digits at tiny size, and what it says to mistakes."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msn_mm.datasets import Digits
from msn_mm.diffusion.comparison import chosen_indices
from msn_mm.diffusion.loading import load_rcdm
from msn_mm.engine.launch import load_config
from msn_mm.utils.cli import run_tool
from tests.helpers import MISTAKES_DRIVER, python_process

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "rcdm.py"
pytest.importorskip("diffusers")

TINY = [
    "model.image_size=8",
    "model.unet.channels=(8, 16)",
    "model.unet.attention=(False, True)",
    "model.unet.head_dim=8",
    "model.unet.groups=4",
    "model.schedule.num_steps=20",
]
FEW = [*TINY, "train_dataloader.dataset.dataset.indices=64", "train_cfg.max_epochs=2"]
SHORT = ["--steps", "2", "--samples", "2"]


def main(*words):
    return runpy.run_path(str(TOOL))["main"]([str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two encoders, an RCDM on each, and a folder of three digits."""
    root = tmp_path_factory.mktemp("rcdm")
    for name, width in (("msn", 24), ("wide", 36)):
        config = root / f"{name}.py"
        config.write_text(
            f"_base_ = ['{ROOT / 'configs' / 'msn_digits.py'}']\n"
            f"model = dict(backbone=dict(embed_dim={width}, depth=1), head=dict(hidden_dim=16))\n"
        )
        from msn_mm.evaluation.encoder import build_encoder

        trunk = build_encoder(load_config(config), None, seed=width).trunk
        torch.save({"state_dict": trunk.state_dict()}, root / f"{name}.pth")
        words = ["--backbone", root / f"{name}.pth", "--backbone-config", config]
        out = ["--out", root / f"rcdm_{name}"]
        assert main("train", "rcdm_digits", *words, *out, "--cfg-options", *FEW) == 0
    (root / "images").mkdir()
    for number in range(3):
        pixels = Digits("test").get_data_info(number)["img"][..., 0]
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    return root


def test_sample_draws_the_picture_of_the_paper(place, tmp_path):
    words = [place / "rcdm_msn" / "epoch_2.pth", place / "rcdm_wide" / "epoch_2.pth"]
    options = ["--names", "MSN", "wide", "--images", place / "images", "--out", tmp_path]
    masks = ["--mask-ratio", "0", "0.5", "0.9"]
    assert (
        main("sample", "rcdm_digits", *words, *options, *masks, *SHORT, "--cfg-options", *TINY) == 0
    )
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size[1] > picture.size[0] > 100
    files = {str(p.relative_to(tmp_path / "images")) for p in tmp_path.rglob("images/*/*.png")}
    assert len(files) == 3 * (1 + 2 * 3 * (1 + 2))
    assert {"0.png/original.png", "2.png/MSN_50_masked_encoded.png"} <= files
    with Image.open(tmp_path / "images/1.png/wide_whole_sample_1.png") as sample:
        assert sample.size == (8, 8)
    seen = np.asarray(Image.open(tmp_path / "images/2.png/MSN_90_masked_encoded.png"))
    original = np.asarray(Image.open(tmp_path / "images/2.png/original.png"))
    patches = (seen != original).any(2).reshape(4, 8, 4, 8).any((1, 3))
    assert patches.sum() == 15, "one of 16 patches is kept"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["tool"] == "rcdm sample" and results["settings"]["images"][0] == "0.png"
    assert len(results["checkpoint_sha256"]) == 2 and set(results["metrics"]) == {"MSN", "wide"}
    again = tmp_path / "again"
    few = ["--images", place / "images", "--out", again, "--batch-size", "3"]
    assert main("sample", "rcdm_digits", words[0], *few, *SHORT, "--cfg-options", *TINY) == 0
    for k in range(2):
        one = (again / f"images/1.png/50_masked_sample_{k}.png").read_bytes()
        other = (tmp_path / f"images/1.png/MSN_50_masked_sample_{k}.png").read_bytes()
        assert one == other, "same seed, same picture, whatever the batch and its company"


def test_the_checkpoint_holds_the_encoder(place, capsys, tmp_path):
    cfg = load_config(
        "rcdm_digits", {key: eval(value) for key, value in (w.split("=") for w in TINY)}
    )
    model = load_rcdm(cfg, place / "rcdm_msn" / "epoch_2.pth")
    saved = torch.load(place / "msn.pth", weights_only=True)["state_dict"]
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, saved[name])
    assert model.encoder_source["checkpoint"] == str(place / "msn.pth")
    words = ["--backbone", place / "msn.pth", "--images", place / "images", "--out", tmp_path]
    more = ["--mask-ratio", "0", *SHORT, "--cfg-options", *TINY]
    assert main("sample", "rcdm_digits", place / "rcdm_msn" / "epoch_2.pth", *words, *more) == 0
    assert "note:" not in capsys.readouterr().out, "it is the very encoder"


def test_interpolate_and_recognise(place, tmp_path, capsys):
    rcdm = place / "rcdm_msn" / "epoch_2.pth"
    ends = [place / "images" / "0.png", place / "images" / "1.png"]
    words = ["--points", "3", *SHORT, "--out", tmp_path / "line", "--cfg-options", *TINY]
    assert main("interpolate", "rcdm_digits", rcdm, *ends, *words) == 0
    assert len(list((tmp_path / "line" / "images").iterdir())) == 2 * 3
    results = json.loads((tmp_path / "line" / "results.json").read_text())
    assert results["metrics"]["distance"] > 0
    capsys.readouterr()
    words = ["--max-images", "10", "--mask-ratio", "0.5", *SHORT, "--out", tmp_path / "share"]
    assert main("recognise", "rcdm_digits", rcdm, *words, "--cfg-options", *TINY) == 0
    told = capsys.readouterr().out
    assert "epoch_2.pth, conditioning untrained" in told and "chance 10 %" in told
    metrics = json.loads((tmp_path / "share" / "results.json").read_text())["metrics"]
    assert set(metrics["recognised"]) == {"0", "0.5"}
    assert 0 < metrics["variety"] < 1 and metrics["nearest"]["real_median"] > 0
    assert (tmp_path / "share" / "recognition.png").is_file()


@pytest.mark.slow
def test_two_processes_train_as_one(place, tmp_path):
    words = ["train", "rcdm_digits", "--backbone", place / "msn.pth", "--out", tmp_path]
    words += ["--backbone-config", place / "msn.py", "--launcher", "pytorch"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    python_process(*launch, TOOL, *words, "--cfg-options", *FEW, cwd=ROOT)
    states = [
        torch.load(folder / "epoch_2.pth", weights_only=True)["state_dict"]
        for folder in (tmp_path, place / "rcdm_msn")
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if name.startswith(("backbone.", "representation_")):
            assert torch.equal(value, states[1][name]), name
    # Adam takes whole steps where a gradient is rounding noise, so single weights may differ.
    apart = [
        (states[0][n] - states[1][n]).norm() / (1e-6 + states[1][n].norm())
        for n in states[0]
        if n.startswith("ema_unet.")
    ]
    assert float(torch.stack(apart).median()) < 1e-4


@pytest.mark.slow
def test_the_benchmark_measures_both_sides(place, tmp_path):
    words = [place / "rcdm_msn" / "rcdm_digits.py", place / "rcdm_msn" / "epoch_2.pth"]
    few = ["--images", "2", "--rounds", "1", "--steps", "2", "20", "--json", tmp_path / "out.json"]
    python_process("benchmarks/rcdm_sampling.py", *words, *few, cwd=ROOT)
    found = json.loads((tmp_path / "out.json").read_text())
    rows = found["rows"]
    assert rows["ddim 20"]["distance_max"] == 0, "the full schedule is itself"
    assert found["between_samples"] > 0 and rows["ddim 2"]["times_faster"] > 2


@pytest.mark.slow
def test_demo_ends_in_the_grid(tmp_path, capsys):
    from msn_mm.evaluation.encoder import build_encoder

    trunk = build_encoder(load_config("msn_digits"), None).trunk
    torch.save({"state_dict": trunk.state_dict()}, tmp_path / "msn.pth")
    words = ["--encoder", tmp_path / "msn.pth", "--compare", "configs/dino_digits.py", "none"]
    few = ["--images", "10", "--steps", "2", "--out", tmp_path, "--cfg-options", *FEW]
    assert main("demo", *words, *few) == 0
    told = capsys.readouterr().out
    assert "MSN, conditioning untrained" in told and "DINO, untrained" in told
    results = json.loads((tmp_path / "results.json").read_text())
    ratios = {"0", "0.5", "0.7", "0.8", "0.9"}
    assert all(set(row["recognised"]) == ratios for row in results["metrics"].values())
    assert len(list(tmp_path.glob("images/*/original.png"))) == 10, "one digit of each class"
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size[1] > picture.size[0]


def test_mistakes_get_one_line(place, tmp_path, capsys):
    rcdm, images = place / "rcdm_msn" / "epoch_2.pth", place / "images"
    (tmp_path / "empty").mkdir()
    tiny = ["--cfg-options", *TINY]
    wide = ["--backbone", place / "wide.pth", "--backbone-config", place / "wide.py"]
    cases = [
        (
            ["sample", "rcdm_digits", rcdm, "--images", tmp_path / "empty", *tiny],
            "no image under",
        ),
        (
            ["sample", "rcdm_digits", rcdm, "--images", images, *wide, *tiny],
            "has 36 numbers and this RCDM was trained with 24",
        ),
        (["sample", "rcdm_digits", place / "msn.pth", "--images", images], "is no RCDM"),
        (["sample", place / "msn.py", rcdm, "--images", images], "is not one of an RCDM"),
        (["sample", "rcdm_digits", rcdm, "--images", images], "belongs to another model"),
        (["sample", "rcdm_digits", "none", "--images", images], "give its checkpoint"),
        (["train", "msn_digits", "--backbone", "none"], "trains no RCDM but MSN"),
        (
            ["interpolate", "rcdm_digits", rcdm, *sorted(images.iterdir())[:2], "--points", "1"],
            "a line has two ends",
        ),
    ]
    for words, line in cases:
        with pytest.raises(SystemExit) as end:
            run_tool(lambda argv: main(*argv), [*words, "--out", tmp_path / "out"])
        told = capsys.readouterr().err.strip()
        assert end.value.code == 2 and "\n" not in told and line in told, (words, told)


def test_mistakes_in_words_are_told_at_once(place):
    rcdm = str(place / "rcdm_msn" / "epoch_2.pth")
    cases = [
        (["sample", "rcdm_digits", rcdm, "--mask-ratio", "1"], "'1' is not between 0 and 1"),
        (["sample", "rcdm_digits", rcdm, "--images", "no/where"], "data folder no/where"),
        (["sample", "rcdm_digits", "no.pth"], "no such checkpoint: 'no.pth'"),
        (["train", "rcdm_digit", "--backbone", "none"], "rcdm_digits"),
        (["train", "rcdm_digits"], "--backbone"),
        (["train", "rcdm_digits", "--backbone", "no.pth"], "no such checkpoint: 'no.pth'"),
        (["interpolate", "rcdm_digits", rcdm, "a.png", "b.png"], "image a.png is no file"),
        (["demo", "--compare", "a", "b", "c"], "--compare takes CONFIG [CHECKPOINT]"),
        (["smple"], "smple"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES_DRIVER, str(TOOL)],
        input=json.dumps([words for words, _ in cases]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    for (words, line), (status, told, _, heavy) in zip(
        cases, json.loads(done.stdout.splitlines()[-1]), strict=True
    ):
        assert status == 2 and line in told and told.count("\n") == 1, (words, told)
        assert not heavy, (words, heavy)


@pytest.mark.parametrize("name", ["rcdm_128", "rcdm_256"])
def test_real_sizes(name):
    """The levels of ADM at full width, without weights: parameters and what the encoder sees."""
    cfg = load_config(f"configs/{name}.py")
    with torch.device("meta"):
        from mmengine.registry import DefaultScope

        from msn_mm.registry import MODELS

        with DefaultScope.overwrite_default_scope("msn_mm"):
            model = MODELS.build(cfg.model)
    # ADM's class-conditional networks have 421 and 554 million parameters; the norms'
    # linear maps of 512 numbers come on top (49.9 and 63.3), its class embedding goes.
    width, millions, blocks = {"rcdm_128": (768, 452.6, 35), "rcdm_256": (1024, 592.9, 42)}[name]
    assert model.unet.representation_width == width and model.unet.num_blocks == blocks
    count = sum(p.numel() for p in model.unet.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.05)
    assert (model.image_size, model.encoder_size) == (int(name[-3:]), 224)
    assert cfg.train_dataloader.dataset.transform.views.image.size == model.side
    assert model.mask_ratio == (0.7 if name == "rcdm_256" else 0.0)


def test_images_are_drawn_from_all_classes():
    """The digits come in turn, so every fifth one is a 0 or a 5."""
    labels = np.array([info["gt_label"] for info in Digits("test").load_data_list()])
    chosen = chosen_indices(500, 100, seed=0)
    assert len(set(chosen)) == 100 and chosen == sorted(chosen)
    assert np.bincount(labels[chosen], minlength=10).min() >= 4
    assert chosen_indices(500, 100, seed=0) == chosen != chosen_indices(500, 100, seed=1)
    assert chosen_indices(5, 100, 0) == chosen_indices(5, 0, 0) == [0, 1, 2, 3, 4]
