"""A checkpoint is data: whatever a file tries to run, no tool and no library of ours runs it."""

from __future__ import annotations

import ast
import json
import os
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import tiny_digits
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from msn_mm.convert.format import convert
from msn_mm.convert.source import read_source
from msn_mm.engine.launch import build_runner
from msn_mm.engine.saved_paths import drop_foreign_paths
from msn_mm.errors import UserError
from msn_mm.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
RAN = "ran"
WEIGHTS = {"w": torch.ones(3)}
BEST = {"interval": 1, "save_best": "auto", "rule": "greater"}
Save = Callable[[Any, Path], None]


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (exec, (f"open({RAN!r}, 'w').close()",))


class ByGetattr:
    """The same by way of ``getattr``, which an allowed ``getattr`` would let pass."""

    def __reduce__(self) -> tuple:
        return (getattr(os, "system"), (f"touch {RAN}",))  # noqa: B009


class ObjectScalar:
    """A NumPy scalar whose type says that the bytes are an object's address."""

    def __reduce__(self) -> tuple:
        make, (_, raw) = np.float64(1).__reduce__()
        return (make, (np.dtype([("a", "O")]), raw))


def _legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _bare(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; with the variable that makes a plain ``torch.load`` run code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    return tmp_path


def refused(call: Callable[[], Any], words: str = "could run code") -> None:
    """Check that a call ends with one line and that no payload ran."""
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not Path(RAN).exists()


def test_the_payload_is_a_real_one() -> None:
    for payload in (Payload(), ByGetattr()):
        torch.save({"state_dict": {"w": payload}}, "p.pth")
        torch.load("p.pth")  # the environment makes this one run code
        assert Path(RAN).exists()
        Path(RAN).unlink()


@pytest.mark.parametrize("save", [torch.save, _legacy, _bare])
@pytest.mark.parametrize("payload", [Payload, ByGetattr])
def test_every_kind_of_file_with_a_payload_is_refused(save: Save, payload: type) -> None:
    path = Path("p.pth")
    for content in ({"state_dict": {"w": payload()}}, {**WEIGHTS, "args": payload()}, payload()):
        save(content, path)
        refused(lambda: read_source(path), "is not loaded, because that could|not a whole")
    folder = Path("hf")
    folder.mkdir()
    save({"w": payload()}, folder / "pytorch_model.bin")
    refused(lambda: read_source(folder), "is not loaded, because that could|not a whole")
    (folder / "pytorch_model.bin").rename(folder / "part.bin")
    index = json.dumps({"weight_map": {"w": "part.bin"}})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    refused(lambda: read_source(folder), "is not loaded, because that could|not a whole")


def test_numpys_unpickling_is_out_of_reach() -> None:
    torch.save({"loss": ObjectScalar(), **WEIGHTS}, "p.pth")
    refused(lambda: read_source("p.pth"), r"NumPy type '[OV]\d*' that is no number's")
    torch.save({"array": np.ones(3), **WEIGHTS}, "p.pth")
    refused(lambda: read_source("p.pth"), "_reconstruct")
    numbers = [
        np.float64(0.5),
        np.float32(-2),
        np.int16(-3),
        np.bool_(True),
        np.dtype(">f8").type(7),
    ]
    torch.save({"numbers": numbers, **WEIGHTS}, "p.pth")
    found = read_source("p.pth").content["numbers"]
    assert found == numbers
    assert [type(x) for x in found] == [type(x) for x in numbers]


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "hf/payload.pth"},
        {"pretrained": True, "pretrained_cfg": {"file": "hf/payload.pth"}},
        {"pretrained_cfg": {"url": "http://127.0.0.1:9/x.pth"}},
        {"cache_dir": "elsewhere"},
        {"depth": "x"},
        {"num_heads": 10**12},
        ["depth"],
    ],
)
def test_a_hugging_face_config_says_nothing_but_plain_numbers(
    arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("hf")
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=1)
    save_file(model.state_dict(), folder / "model.safetensors")
    torch.save({"w": Payload()}, folder / "payload.pth")
    built = []
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: (built.append(k), make(*a, **k))[1])
    config = {"architecture": "vit_tiny_patch16_224", "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config))
    refused(lambda: convert(read_source(folder)), "'hf' |'hf'")
    assert not built
    config["model_args"] = {"depth": 1, "num_heads": 6, "drop_path_rate": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    assert convert(read_source(folder)).architecture.heads == 6
    assert all(set(given) == {"pretrained"} for given in built)


def _image_folder(root: Path) -> None:
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(root / split / name / "a.png")


def _command(tool: str, path: str) -> list[str] | None:
    """A command line that gives a tool the checkpoint; ``None`` where a tool takes none."""
    few = ["--images-per-class", "1", "--splits", "1"]
    return {
        "benchmark": None,
        "convert": [path],
        "demo": None,
        "extract": ["tiny.py", path],
        "finetune": [str(ROOT / "configs" / "finetune_digits.py"), path],
        "knn": ["tiny.py", path],
        "linear": ["tiny.py", path],
        "lowshot": ["tiny.py", path, *few],
        "masking": ["tiny.py", path],
        "partial": ["tiny.py", path, *few],
        "rcdm": ["train", str(ROOT / "configs" / "rcdm_digits.py"), "--backbone", path],
        "report": None,  # below: it says what it cannot show, and goes on
        "robustness": ["tiny.py", path, "--imagenet-a", "images/test"],
        "show_views": None,
        "sweep": None,
        "test": ["tiny.py", path],
        "train": ["tiny.py", "--resume", path],
        "transfer": ["tiny.py", path, "--data", "images"],
    }[tool]


@pytest.mark.parametrize("tool", sorted(path.stem for path in (ROOT / "tools").glob("*.py")))
def test_every_tool_refuses_a_payload(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_digits().dump("tiny.py")
    _image_folder(Path("images"))
    torch.save({"state_dict": {"w": Payload()}}, "p.pth")
    words = _command(tool, "p.pth")
    if words is None:
        return
    main = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"))["main"]
    refused(lambda: main(words))


def test_sampling_from_a_payload_is_refused() -> None:
    torch.save({"state_dict": {"w": Payload()}}, "p.pth")
    main = runpy.run_path(str(ROOT / "tools" / "rcdm.py"))["main"]
    refused(lambda: main(["sample", str(ROOT / "configs" / "rcdm_digits.py"), "p.pth"]))


def test_a_page_on_a_payload_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    log = Path("run") / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}) + "\n")
    tiny_digits().dump("run/tiny.py")
    torch.save({"state_dict": {"w": Payload()}}, "run/epoch_1.pth")
    main = runpy.run_path(str(ROOT / "tools" / "report.py"))["main"]
    assert main(["run"]) == 0
    assert not Path(RAN).exists() and "could run code" in capsys.readouterr().out


def _place_in_runner(load_from: str, resume: bool) -> None:
    cfg = tiny_digits(load_from=load_from, resume=resume)
    runner = build_runner(cfg, work_dir="out")
    runner.train()


@pytest.mark.parametrize("resume", [False, True])
def test_load_from_and_resume_refuse_a_payload(resume: bool) -> None:
    torch.save({"state_dict": {"w": Payload()}, "meta": {"epoch": 0, "iter": 0}}, "p.pth")
    refused(lambda: _place_in_runner("p.pth", resume))


def test_a_resumed_checkpoint_runs_no_config_text() -> None:
    without_val = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    small = {"train_dataloader.dataset.dataset.indices": 32, "default_hooks.checkpoint.interval": 1}
    cfg = tiny_digits(**without_val, **small)
    build_runner(cfg, work_dir="out").train()
    content = torch.load("out/epoch_2.pth", weights_only=True)
    content["meta"]["config"] = f"open({RAN!r}, 'w').close()"
    torch.save(content, "p.pth")
    build_runner(cfg, work_dir="again", resume="p.pth").train()
    assert not Path(RAN).exists()
    assert Path("again/epoch_3.pth").is_file()


def test_a_resumed_checkpoint_removes_nothing_of_others() -> None:
    small = {
        "train_dataloader.dataset.dataset.indices": 32,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        **{f"default_hooks.checkpoint.{k}": v for k, v in BEST.items()},
        "default_hooks.checkpoint.max_keep_ckpts": 2,
    }
    build_runner(tiny_digits(**small), work_dir="out").train()
    for victim in ("thesis", "elsewhere"):
        Path(victim).mkdir()
        Path(victim, "thesis.tex").touch()
    content = torch.load("out/epoch_1.pth", weights_only=True)
    told = content["message_hub"]["runtime_info"]
    assert "/out/best_" in told["best_ckpt"]
    told |= {"best_ckpt": "thesis", "last_ckpt": "/etc", "best_score": -1.0}
    told["keep_ckpt_ids"] = [7, 8, "../elsewhere", True, -1, [2]]
    torch.save(content, "p.pth")
    Path("again").mkdir()
    Path("again/epoch_7.pth").write_bytes(b"of another training")
    build_runner(tiny_digits(**small), work_dir="again", resume="p.pth").train()
    assert Path("again/epoch_7.pth").read_bytes() == b"of another training"
    assert Path("thesis/thesis.tex").is_file() and Path("elsewhere/thesis.tex").is_file()
    assert list(Path("again").glob("best_*.pth"))


def test_a_history_keeps_its_own_paths_alone(place: Path) -> None:
    Path("out").mkdir()
    Path("out/folder.pth").mkdir()
    own = {"best_ckpt": "out/best_a.pth", "last_ckpt": str(place / "out" / "epoch_1.pth")}
    for wrong in ("out", "out/folder.pth", "out/a/b.pth", "../x.pth", "out/../x.pth", 3, None):
        told = {**own, "best_ckpt_top1": wrong, "rolling_ckpt_ids": (4, "5"), "epoch": 1}
        drop_foreign_paths({"runtime_info": told}, "out", "out/epoch_5.pth")
        assert told == {**own, "rolling_ckpt_ids": [4], "epoch": 1}
        drop_foreign_paths({"runtime_info": told}, "out", "elsewhere/epoch_5.pth")
        assert told == {**own, "rolling_ckpt_ids": [], "epoch": 1}


def test_every_scheme_of_mmengine_reads_data_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for loader in CheckpointLoader._schemes.values():
        assert loader.__module__ == "msn_mm.convert.runner_loading", loader
    torch.save({"state_dict": {"w": Payload()}}, "p.pth")
    model = nn.Linear(2, 2)
    refused(lambda: load_checkpoint(model, "p.pth"))
    pretrained = dict(type="Pretrained", checkpoint="p.pth")
    backbone = MODELS.build(dict(type="mmpretrain.ResNet", depth=18, init_cfg=pretrained))
    refused(backbone.init_weights)
    monkeypatch.setattr("msn_mm.convert.source.download", lambda *_: Path("p.pth"))
    for place in ("https://x.org/p.pth", "torchvision://resnet18", "mmcls://resnet18_v1d"):
        try:
            CheckpointLoader.load_checkpoint(place)
        except UserError as error:
            assert "could run code" in str(error) or "no published checkpoint" in str(error)
        else:
            raise AssertionError(place)
    refused(lambda: CheckpointLoader.load_checkpoint("pavi://x"), "cannot be fetched")
    assert not Path(RAN).exists()


def test_safetensors_where_mmengine_loads(place: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    save_file(other.state_dict(), "w.safetensors")
    load_checkpoint(model, "w.safetensors")
    assert all(torch.equal(model.state_dict()[k], v) for k, v in other.state_dict().items())
    for path in ("w.safetensors", "w.pth"):
        torch.save({"state_dict": other.state_dict()}, "w.pth")
        refused(
            lambda path=path: build_runner(tiny_digits(), work_dir="out", resume=path),
            "holds no training state.*--load-from",
        )
    save_file(other.state_dict(), "plain.pth")  # a name says nothing
    refused(
        lambda: build_runner(tiny_digits(), work_dir="out", resume="plain.pth"),
        "holds no training state",
    )


_LOADERS = {"load_state_dict_from_url", "load_url", "Unpickler", "joblib", "cloudpickle", "dill"}


def _unsafe(tree: ast.AST) -> list[str]:
    """Calls that unpickle: by name, and ``torch.load`` and ``np.load`` by their arguments."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        owner, _, last = name.rpartition(".")
        if (
            (owner == "torch" and last == "load" and words.get("weights_only") != "True")
            or (last in ("load", "loads") and owner in ("pickle", "mmengine", "fileio", "marshal"))
            or (last in _LOADERS or owner in _LOADERS)
            or words.get("allow_pickle", "False") != "False"
            or name in ("eval", "exec")
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_no_source_unpickles_or_runs_text() -> None:
    wrong = ("torch.load(p)", "pickle.loads(b)", "np.load(p, allow_pickle=True)", "eval(x)")
    assert all(_unsafe(ast.parse(line)) for line in wrong)
    found = {
        str(path.relative_to(ROOT)): calls
        for folder in ("msn_mm", "tools", "benchmarks", "configs")
        for path in (ROOT / folder).rglob("*.py")
        if (calls := _unsafe(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert not found


def test_mmengine_still_has_the_one_way_in_that_is_closed() -> None:
    """A later MMEngine that loads in another place must be looked at anew."""
    source = ast.parse(Path(Runner.load_checkpoint.__code__.co_filename).read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(source) if isinstance(node, ast.Call)}
    assert "_load_checkpoint" in calls
    assert not {"torch.load", "pickle.load", "pickle.loads"} & calls
