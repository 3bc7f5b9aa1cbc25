"""What a user can get wrong on a command line: one line with the mend, status 2, at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import MISTAKES_DRIVER

from msn_mm.engine.launch import load_config
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
DIGITS = "configs/msn_digits.py"
# The right config of a tool that takes another kind.
OWN_CONFIG = {"finetune": "configs/finetune_digits.py"}

# Each tool with everything right but what a case replaces: {c} a config, {w} weights.
TOOLS = {
    "train": ["{c}"],
    "demo": ["--config", "{c}"],
    "benchmark": ["{c}"],
    "test": ["{c}", "{w}"],
    "lowshot": ["{c}", "{w}"],
    "knn": ["{c}", "{w}"],
    "masking": ["{c}", "{w}"],
    "extract": ["{c}", "{w}"],
    "transfer": ["{c}", "{w}", "--data", "."],
    "finetune": ["{c}", "{w}"],
    "convert": ["{w}", "{o}", "--to", "timm"],
    "linear": ["{c}", "{w}"],
    "partial": ["{c}", "{w}"],
    "robustness": ["{c}", "{w}", "--imagenet-a", "."],
    "show_views": ["{c}", "--index", "0"],
}
WITH_CONFIG = [tool for tool in TOOLS if tool != "convert"]
WITHOUT_WEIGHTS = ("train", "demo", "show_views", "benchmark")
WITH_WEIGHTS = [tool for tool in TOOLS if tool not in WITHOUT_WEIGHTS]

CONFIGS = {
    "gone.py": r"no such config: 'gone\.py'",
    "msn_digit.py": r"no such config: .* Did you mean 'configs/msn_digits\.py'",
    "folder": r"config folder is a directory; give one of its files",
    "empty.py": r"config empty\.py is empty",
    "text.py": r"cannot read config text\.py, line 1: SyntaxError",
    **dict.fromkeys(("a" * 300, "~nosuchuser/c.py", ""), "^error: config"),
    "image.png": r"config image\.png is no config: its name must end in \.py",
}
WEIGHTS = {
    "gone.pth": r"no such checkpoint: 'gone\.pth'; (check the path|give a file)",
    "folder": r"directory 'folder' has no model\.safetensors .* give the checkpoint file itself",
    "empty.pth": r"'empty\.pth' is not a whole checkpoint: it is empty",
    "text.py": r"'text\.py' is not a whole checkpoint: it is neither",
    "cut.pth": r"'cut\.pth' is not a whole checkpoint: it is cut off; get it again",
    "page.pth": r"'page\.pth' is not a whole checkpoint but a web page",
    **dict.fromkeys(("a" * 300, "~nosuchuser/x.pth", " "), "^error: checkpoint"),
    "http://[::1": r"'http://\[::1' is no address",
    "http:///x.pth": "names no host",
}
OPTIONS = {
    "train": {"--seed": "-1", "--launcher": "mpi", "--processes": "none", "--work-dir": "text.py"},
    "demo": {"--splits": "1"},
    "benchmark": {"--workers": "-1", "--batch": "0", "--steps": "0", "--launcher": "mpi"},
    "test": {"--launcher": "mpi"},
    "lowshot": {
        **{"--images-per-class": "0", "--fraction": "1.5", "--mask-ratio": "1", "--splits": "x"},
        **{"--lambd": "-1", "--solver": "sgd", "--batch-size": "0", "--workers": "-1"},
    },
    "knn": {"--k": "0", "--temperature": "0", "--blocks": "0", "--seed": "1"},
    "masking": {"--mask-ratio": "0", "--masks": "0", "--images": "gone", "--max-images": "1"},
    "extract": {"--mask-ratio": "1", "--images": "text.py", "--part": "some", "--format": "csv"},
    "finetune": {"--seed": "-1", "--launcher": "mpi"},
    "transfer": {"--data": "cifar11", "--resize": "0", "--crop": "x"},
    "convert": {"--heads": "many", "--from": "nope", "--sha256": "zz"},
    "linear": {
        **{"--features": "patch", "--lr-scales": "0", "--layer-norm": "some", "--holdout": "1"},
        **{"--epochs": "0", "--global-batch": "x", "--batch-size": "0", "--flip": "2"},
    },
    "partial": {
        **{"--images-per-class": "0", "--fraction": "1.5", "--lrs": "0", "--epochs": "0"},
        **{"--folds": "1", "--views": "-1", "--scale": "2", "--flip": "2", "--memory": "0"},
        **{"--global-batch": "0", "--lambd": "-1", "--seed": "-1", "--launcher": "mpi"},
    },
    "robustness": {
        **{"--imagenet-a": "gone", "--imagenet-r": "text.py", "--imagenet-c": "", "--corrupt": ""},
        **{"--corruptions": "rain", "--severities": "6", "--baseline": "word", "--seed": "-1"},
        **{"--imagenet-sketch": "gone"},
    },
    "show_views": {"--index": "-1", "--epochs": "0", "--seed": "-1"},
}


def cases(tool: str) -> list[tuple[list[str], str]]:
    """Every mistake of a tool: its words, and what the line must say."""
    right = TOOLS[tool]

    def replace(name: str, by: str) -> list[str]:
        return [by if word == name else word for word in right]

    found = []
    if tool in WITH_CONFIG:
        found += [(replace("{c}", bad), said) for bad, said in CONFIGS.items()]
    if tool in WITH_WEIGHTS:
        found += [(replace("{w}", bad), said) for bad, said in WEIGHTS.items()]
    found += [
        ([*right, option, value], re.escape(option))
        for option, value in OPTIONS[tool].items()
        if option not in ("--data", "--work-dir")
    ]
    found.append(([*right, "--no-such-option"], "unrecognized arguments: --no-such-option"))
    found.append(
        (
            right[:-1] if tool != "demo" else [*right, "word"],
            "required|unrecognized|expected at least one|together|expected one",
        )
    )
    if tool in ("train", "finetune"):
        found += [([*right, "--resume", place], "--resume") for place in ("", "a" * 300)]
        found.append(([*right, "--work-dir", ""], "--work-dir"))
    if tool == "transfer":
        found.append(([*right[:-1], "cifar11"], "no data set.* Did you mean 'cifar10'"))
    if tool == "convert":
        wrong = {
            ("text.py/x.safetensors", "timm"): "cannot write to .* text.py is a file",
            ("text.py/x", "hf"): "cannot write to .* text.py is a file",
            ("a" * 300 + ".safetensors", "timm"): "DST: cannot look",
            ("~nosuchuser/x.safetensors", "timm"): "DST: .* is no path",
            ("x.pth", "timm"): r"ends in \.safetensors",
            ("x", "tim"): r"no checkpoint can be written as 'tim'.* Did you mean 'timm'",
        }
        found += [(["{w}", place, "--to", to], said) for (place, to), said in wrong.items()]
    else:
        found += [([*right, "--out", place], "^error: --out") for place in ("", "a" * 300)]
        out = "cannot write to --out text.py(/below)?: text.py is a file; name a directory"
        found += [([*right, "--out", place], out) for place in ("text.py", "text.py/below")]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a right config's name, right weights and wrong files of every kind."""
    path = tmp_path_factory.mktemp("bad")
    torch.save({"state_dict": {}}, path / "whole.pth")
    content = (path / "whole.pth").read_bytes()
    (path / "cut.pth").write_bytes(content[: len(content) // 2])
    (path / "folder").mkdir()
    for name in ("empty.py", "empty.pth"):
        (path / name).touch()
    (path / "text.py").write_text("this is no code\n")
    (path / "image.png").write_bytes(b"\x89PNG")
    (path / "page.pth").write_text("<!doctype html><title>sign in</title>")
    return path


@pytest.mark.parametrize("tool", TOOLS)
def test_a_mistake_is_one_line_before_anything_heavy_is_loaded(tool: str, place: Path) -> None:
    asked = cases(tool)
    config = OWN_CONFIG.get(tool, DIGITS)
    names = {"{c}": config, "{w}": "whole.pth", "{o}": "converted.safetensors"}
    before = sorted(place.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES_DRIVER, str(ROOT / "tools" / f"{tool}.py")],
        input=json.dumps([[names.get(word, word) for word in words] for words, _ in asked]),
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for (words, said), (status, errors, output, heavy) in zip(
        asked, json.loads(done.stdout), strict=True
    ):
        assert status == 2, (words, status, errors)
        assert len(errors.splitlines()) == 1 and errors.startswith("error: "), (words, errors)
        assert re.search(said, errors), (words, errors)
        assert not output and not heavy, (words, output, heavy)
    assert sorted(place.iterdir()) == before, "a mistake leaves nothing behind"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root")
@pytest.mark.parametrize("tool", WITH_CONFIG)
def test_a_file_system_that_cannot_be_written(tool: str, place: Path) -> None:
    # /proc refuses even root
    config = OWN_CONFIG.get(tool, DIGITS)
    words = [{"{c}": config, "{w}": "whole.pth"}.get(word, word) for word in TOOLS[tool]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *words, "--out", "/proc/self/out"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and "cannot write to --out /proc/self/out" in lines[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", WITH_WEIGHTS)
def test_weights_of_another_architecture_are_one_line(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpy

    from msn_mm.errors import UserError

    monkeypatch.chdir(tmp_path)
    if tool == "convert":
        torch.save({"transformer.h.0.attn.c_attn.weight": torch.zeros(4, 12)}, "other.pth")
    else:
        other = load_config(DIGITS, {"model.backbone.embed_dim": 48}).model
        torch.save({"state_dict": MODELS.build(other).state_dict()}, "other.pth")
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    config = OWN_CONFIG.get(tool, DIGITS)
    names = {"{c}": config, "{w}": "other.pth", "{o}": "converted.safetensors"}
    for part in ("train/a", "test/a"):
        (tmp_path / part).mkdir(parents=True)
        from PIL import Image

        Image.new("L", (32, 32), 80).save(tmp_path / part / "1.png")
    with pytest.raises(UserError, match=r"other\.pth") as caught:
        main([names.get(word, word) for word in TOOLS[tool]])
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.rglob("results.json"))


VALUES = {
    "model=3": "model=3: it is a dict in the config; set what is in it, such as model.type=",
    "model.backbone=vit_tiny_patch16_224": r"set what is in it, such as model.backbone.name=",
    "model.head=None": "model.head=None: MSN needs it",
    "model.mask_ratio=0.3": r"model.mask_ratio=0.3: it is a dict .* model.mask_ratio.anchor=",
    "model.mask_ratio.anchor=abc": r"anchor=abc: it is a number in the config \(0",
    "optim_wrapper.optimizer.type=Adamm": "as 'Adamm'. Did you mean 'Adam",
    "custom_hooks.0.momentum=2": "momentum",
    "train_dataloader.num_workers=abc": "num_workers=abc: it is a number",
    "val_evaluator.images_per_class=x": "images_per_class",
    "train_dataloader.dataset.transform.views.anchor.scale=0.3": "scale",
    "train_dataloader.dataset.transform.views.target.size=abc": "size=abc: it is a number",
    "model.backbone.depth=-1": "depth is -1",
    "model.backbone.act_layer=nonsense": "act_layer|cannot be built by these arguments",
    "model.backbone.mlp_ratio=x": "mlp_ratio is 'x'",
    "model.backbone.norm_eps=x": "norm_eps is 'x'",
    "train_cfg.max_epochs=x": "max_epochs=x: it is a number in the config",
    "randomness.seed=x": "seed=x: it is a number in the config",
}


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("option", VALUES)
def test_a_value_that_is_none_is_one_line(option: str, dry: bool, tmp_path: Path) -> None:
    import runpy

    from msn_mm.errors import UserError

    main = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    words = [DIGITS, "--out", str(tmp_path / "out"), *["--dry-run"] * dry]
    with pytest.raises(UserError, match=VALUES[option]) as caught:
        main([*words, "--cfg-options", option])
    assert len(str(caught.value).splitlines()) == 1


def test_parts_of_a_config_that_belong_together(tmp_path: Path) -> None:
    from msn_mm.engine.launch import build_runner
    from msn_mm.errors import UserError

    cfg = load_config(DIGITS, {"val_evaluator": None})
    with pytest.raises(UserError, match="val_evaluator should be either all None"):
        build_runner(cfg, work_dir=tmp_path)


@pytest.mark.parametrize(
    "setting",
    [
        *({"layers": 5}, {"layers": []}, {"base_channels": "x"}, {"groups": 0}, {"stem": "s"}),
        *({"in_channels": None}, {"heads": True}, {"block": ["basic"]}, {"padding": 1}),
    ],
)
def test_settings_of_a_residual_network(setting: dict) -> None:
    from msn_mm.convert.format import RawCheckpoint, convert
    from msn_mm.errors import UserError

    backbone = dict(type="PlainResNet", layers=(1, 1, 1, 1), block="basic", base_channels=8)
    state = MODELS.build({**backbone, "stem_channels": 8}).state_dict()
    with pytest.raises(UserError, match=f"arch.* {next(iter(setting))}|'heads'"):
        convert(RawCheckpoint("x", state), arch=setting)


def test_a_hash_counts_for_a_local_file_too(place: Path) -> None:
    import hashlib

    from msn_mm.convert.source import read_source
    from msn_mm.errors import UserError

    path = place / "whole.pth"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    read_source(path, sha256=found[:8].upper())
    with pytest.raises(UserError, match="another file than wanted"):
        read_source(path, sha256="0" * 8 if found[:8] != "0" * 8 else "1")
    with pytest.raises(UserError, match="leave the hash out"):
        read_source(place / "folder", sha256="0")
    assert path.is_file()


def test_the_light_lists_are_the_registries() -> None:
    from msn_mm.convert.format import formats
    from msn_mm.convert.writer import writers
    from msn_mm.utils.checkpoint_options import FORMAT_NAMES, WRITER_SUFFIXES

    assert sorted(entry.name for entry in formats()) == sorted(FORMAT_NAMES)
    assert {name: writer.suffix for name, writer in writers().items()} == WRITER_SUFFIXES


def test_a_write_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from msn_mm.convert import writer
    from msn_mm.errors import UserError

    class Full(writer.Writer):
        name, suffix = "full", ""

        def write(self, converted: object, destination: Path) -> writer.Written:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "writers", lambda: {"full": Full()})
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        writer.write(None, tmp_path / "x", "full")  # type: ignore[arg-type]


def test_a_missing_folder_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import runpy

    from msn_mm.errors import UserError

    main = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    words = ["msn_folder.py", "--out", str(tmp_path / "out"), "--cfg-options"]
    with pytest.raises(UserError, match=r"data folder .*nowhere does not exist; set data_root"):
        main([*words, f"data_root={tmp_path / 'nowhere'}"])
    assert not (tmp_path / "out").exists() and not capsys.readouterr().out
