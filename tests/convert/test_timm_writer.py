"""Any ViT, out to timm and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.convert.writer import write

from .reference import random_vit
from .test_vit_formats import assert_same, below, dinov2, images


def heads(state):
    return state | {"head.weight": torch.randn(5, 192), "head.bias": torch.randn(5)}


def averaged():
    state = heads(random_vit())
    for kind in ("weight", "bias"):
        state[f"fc_norm.{kind}"] = state.pop(f"norm.{kind}")
    return state


CONTENTS = {
    "dino": lambda: random_vit(),
    "mae": lambda: {"model": averaged()},
    "dinov2": lambda: dinov2(registers=4),
    "dinov2 gated": lambda: dinov2(gated=True),
    "mocov3": lambda: {"state_dict": below("module.base_encoder.", random_vit(384))},
    "timm": lambda: heads(random_vit()),
}


def converted_of(name: str) -> Converted:
    return convert(RawCheckpoint("weights.pth", CONTENTS[name]()))


@pytest.mark.parametrize("name", CONTENTS)
def test_timm_loads_the_file_by_the_line_that_is_told(name, tmp_path: Path):
    converted = converted_of(name)
    written = write(converted, tmp_path / "model.safetensors", "timm")
    model = eval(written.use, {"timm": timm}).eval()
    trunk = load_trunk(converted, "weights.pth")
    side = converted.architecture.image_size
    batch = images(side, side)
    cls, patches = trunk.forward_intermediates(batch)[0]
    tokens = model.forward_features(batch)
    assert_same(
        torch.cat([tokens[:, :1], tokens[:, model.num_prefix_tokens :]], 1),
        torch.cat([cls[:, None], patches], 1),
    )
    if converted.classifier:
        pooled = patches.mean(1) if converted.pooling == "mean" else cls
        head = converted.classifier
        if "norm.weight" in head:
            pooled = torch.nn.functional.layer_norm(
                pooled, pooled.shape[1:], head["norm.weight"], head["norm.bias"], eps=1e-6
            )
        assert_same(model(batch), pooled @ head["weight"].T + head["bias"])


@pytest.mark.parametrize("name", CONTENTS)
def test_there_and_back_is_bitwise_the_same(name, tmp_path: Path):
    converted = converted_of(name)
    written = write(converted, tmp_path / "model.safetensors", "timm")
    back = convert(read_source(written.path))
    assert back.format == "timm"
    assert back.architecture == converted.architecture
    assert (back.pooling, back.mean, back.std) == (converted.pooling, converted.mean, converted.std)
    for ours, theirs in ((converted.trunk, back.trunk), (converted.classifier, back.classifier)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_has_no_place_in_timm_is_told(tmp_path: Path):
    converted = converted_of("dino")
    converted.extras["prototypes"] = torch.zeros(3, 4)
    written = write(converted, tmp_path / "model.safetensors", "timm")
    assert written.left_out == ["prototypes"]
    assert "features at other sizes than 32 differ" in written.notes[0]
    assert not write(converted_of("timm"), tmp_path / "other.safetensors", "timm").notes
