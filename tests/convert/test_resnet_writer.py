"""ResNets written for torchvision and timm, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
from msn_mm.convert.formats.torchvision_resnet import METADATA_KEY
from msn_mm.convert.source import read_source
from msn_mm.convert.writer import write
from msn_mm.errors import UserError
from msn_mm.registry import MODELS

from .resnets import prefixed, randomise, small
from .test_classifier import vit_of


def converted(state: dict[str, torch.Tensor], **arch: Any) -> Converted:
    return convert(RawCheckpoint("some.pth", {"state_dict": state}), arch=arch)


def test_torchvision_loads_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = randomise(torchvision.models.resnet18(num_classes=3))
    state = prefixed(original.state_dict(), "backbone.")
    state |= {f"head.fc.{name}": getattr(original.fc, name) for name in ("weight", "bias")}
    found = converted(state)
    assert found.format == "mmpretrain_resnet"
    write(found, tmp_path / "out.safetensors", "torchvision")
    model = torchvision.models.resnet18(num_classes=3).eval()
    model.load_state_dict(load_file(tmp_path / "out.safetensors"))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images), original(images))


@pytest.mark.parametrize(
    "config", [dict(padding="same", base_channels=16), dict(stem="small_padded")]
)
def test_it_comes_back_bitwise(config: dict[str, Any], tmp_path: Path) -> None:
    """With what weights do not tell: borders, stem and normalisation."""
    torch.manual_seed(0)
    net = dict(type="PlainResNet", layers=(1, 1), block="basic", in_channels=2, **config)
    state = randomise(MODELS.build(net)).state_dict()
    first = converted(
        prefixed(state, "backbone."), **{k: v for k, v in config.items() if k != "base_channels"}
    )
    first.mean, first.std = (0.5, 0.25), (0.5, 0.125)
    written = write(first, tmp_path / "out.safetensors", "torchvision")
    assert written.notes
    again = convert(read_source(tmp_path / "out.safetensors"))
    assert again.architecture == first.architecture
    assert (again.mean, again.std) == (first.mean, first.std)
    assert set(again.trunk) == set(state)
    assert all(torch.equal(again.trunk[name], value) for name, value in state.items())
    images = torch.randn(2, 2, 33, 33)
    assert torch.equal(load_trunk(again, "a")(images), load_trunk(first, "b")(images))


def test_a_vit_is_refused(tmp_path: Path) -> None:
    import timm

    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3
    )
    with pytest.raises(UserError, match="'torchvision' is written of ResNets only, not a ViT"):
        write(vit_of(model, "cls"), tmp_path / "out.safetensors", "torchvision")


@pytest.mark.parametrize("text", ["{", "[]", '{"mean": "x"}', '{"std": 3}'])
def test_damaged_metadata_are_one_line(text: str) -> None:
    raw = RawCheckpoint("odd.safetensors", small().state_dict(), {"metadata": {METADATA_KEY: text}})
    message = r"metadata 'msn_mm\.resnet' of 'odd\.safetensors' are damaged"
    with pytest.raises(UserError, match=message):
        convert(raw)


@pytest.mark.slow
def test_onnx_of_other_channels(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    original = small((1, 1, 1, 1)).state_dict()
    original["conv1.weight"] = original["conv1.weight"][:, :1].clone()
    found = converted(prefixed(original, "backbone."))
    write(found, tmp_path / "out.onnx", "onnx")
    session = runtime.InferenceSession(str(tmp_path / "out.onnx"))
    images = torch.randn(3, 1, 224, 224)
    got = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    expected = load_trunk(found, "a")(images)
    assert (torch.from_numpy(got) - expected).abs().max() <= 1e-4 * expected.abs().max()
