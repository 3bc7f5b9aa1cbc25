from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from msn_mm.convert.format import convert
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.ones(4)}


class _Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("code ran",))


def _same(found: dict[str, Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[k], TENSORS[k]) for k in found)


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    torch.save({"model": TENSORS}, tmp_path / "zip.pth")
    torch.save({"model": TENSORS}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "old.pth.tar"):
        assert _same(read_source(tmp_path / name).tensors("model"))
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"k": "v"})
    raw = read_source(tmp_path / "x.safetensors")
    assert _same(raw.tensors())
    assert raw.config == {"metadata": {"k": "v"}}
    # a name says nothing: the first bytes do
    save_file(TENSORS, tmp_path / "x.pth")
    assert _same(read_source(str(tmp_path / "x.pth")).tensors())


def test_options_and_numpy_numbers_are_data(tmp_path: Path) -> None:
    content = {
        "model": TENSORS,
        "args": argparse.Namespace(arch="vit_small", lr=np.float64(0.5)),
        "best": np.float32(2.5),
        "epoch": np.int64(3),
    }
    for new in (True, False):
        path = tmp_path / f"{new}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new)
        raw = read_source(path)
        assert raw.content["args"].arch == "vit_small"
        assert raw.content["args"].lr == 0.5
        assert (raw.content["best"], raw.content["epoch"]) == (2.5, 3)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_directories_and_shards(kind: str, tmp_path: Path) -> None:
    stem = "model" if kind == "safetensors" else "pytorch_model"

    def save(tensors: dict[str, Tensor], path: Path) -> None:
        save_file(tensors, path) if kind == "safetensors" else torch.save(tensors, path)

    whole = tmp_path / "whole"
    whole.mkdir()
    save(TENSORS, whole / f"{stem}.{kind}")
    (whole / "config.json").write_text('{"model_type": "vit_msn"}')
    (whole / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    raw = read_source(whole)
    assert _same(raw.tensors())
    assert raw.config["model_type"] == "vit_msn"
    assert raw.config["preprocessor_config"]["image_mean"] == [0.5]

    sharded = tmp_path / "sharded"
    sharded.mkdir()
    names = {"a": f"{stem}-1-of-2.{kind}", "b.c": f"{stem}-2-of-2.{kind}"}
    for key, file in names.items():
        save({key: TENSORS[key]}, sharded / file)
    index = sharded / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert _same(read_source(sharded).tensors())
    assert _same(read_source(index).tensors())
    index.write_text(json.dumps({"weight_map": {**names, "d": names["a"]}}))
    with pytest.raises(UserError, match="1 tensors that its files lack, such as 'd'"):
        read_source(sharded)
    index.write_text(json.dumps({"weight_map": {"a": f"../whole/{stem}.{kind}"}}))
    with pytest.raises(UserError, match="does not lie beside it"):
        read_source(sharded)
    with pytest.raises(UserError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        read_source(tmp_path)


def test_what_is_no_checkpoint_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": torch.zeros(5000)}, tmp_path / "new.pth")
    torch.save({"w": torch.zeros(5000)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({"w": torch.zeros(5000)}, tmp_path / "x.safetensors")
    for name in ("new.pth", "old.pth", "x.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for part in (30, len(whole) // 2, len(whole) - 100):
            _refused(tmp_path / "torn", whole[:part], "is not a whole checkpoint")
    _refused(tmp_path / "empty", b"", "it is empty")
    _refused(tmp_path / "text", b"weights, weights, weights", "neither a file of torch.save nor")
    _refused(tmp_path / "page", b"\n<!DOCTYPE html><html>", "a web page")
    _refused(tmp_path / "lfs", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")
    with pytest.raises(UserError, match="no such checkpoint"):
        read_source(tmp_path / "absent.pth")
    for new in (True, False):
        torch.save({"w": _Harmful()}, tmp_path / "p", _use_new_zipfile_serialization=new)
        with pytest.raises(UserError, match=r"print\) and is not loaded, because that could run"):
            read_source(tmp_path / "p")
    assert "code ran" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no named tensors: it holds a list"):
        read_source(tmp_path / "list.pth")


def _refused(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=why) as caught:
        read_source(path)
    assert "\n" not in str(caught.value)


def test_a_language_model_is_told_by_its_keys(tmp_path: Path) -> None:
    keys = ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight")
    torch.save({k: torch.zeros(2) for k in keys}, tmp_path / "gpt.bin")
    with pytest.raises(UserError, match=r"no checkpoint of an image encoder.*transformer\.wte"):
        convert(read_source(tmp_path / "gpt.bin"))
