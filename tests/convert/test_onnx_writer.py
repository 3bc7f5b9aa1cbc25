"""Backbones as ONNX, run by onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.writer import write
from msn_mm.convert.writers import onnx as writer
from msn_mm.errors import UserError

from .reference import random_vit
from .test_vit_formats import dinov2, images

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("content", [random_vit(depth=1), dinov2(registers=4)])
def test_any_number_of_images_gives_what_torch_gives(content, tmp_path: Path):
    converted = convert(RawCheckpoint("weights.pth", content))
    converted.extras["prototypes"] = torch.zeros(3, 4)
    written = write(converted, tmp_path / "model.onnx", "onnx")
    assert written.left_out == ["prototypes"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(written.path))
    trunk = load_trunk(converted, "weights.pth")
    side = converted.architecture.image_size
    for number in (1, 2, 7):
        batch = images(side, side)[:1].repeat(number, 1, 1, 1) * torch.rand(number, 1, 1, 1)
        (got,) = session.run(None, {"images": batch.numpy()})
        expected = trunk(batch)
        difference = (torch.from_numpy(got) - expected).abs().max() / expected.abs().max()
        assert got.shape == (number, 192)
        assert difference < 1e-4
    told = {entry.key: json.loads(entry.value) for entry in onnx.load(written.path).metadata_props}
    assert told["mean"] == [0.485, 0.456, 0.406]


def test_numbers_that_differ_are_not_written(tmp_path: Path, monkeypatch):
    converted = convert(RawCheckpoint("weights.pth", random_vit(depth=1)))
    monkeypatch.setattr(writer, "_TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"differ from torch's by .* relative; nothing was written"):
        write(converted, tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch):
    converted = convert(RawCheckpoint("weights.pth", random_vit(depth=1)))
    monkeypatch.setattr(writer, "_NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match="needs no_such_package: pip install onnx onnxscript"):
        write(converted, tmp_path / "model.onnx", "onnx")
