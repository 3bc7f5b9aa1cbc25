from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from convert.released import released
from convert.vits import ARCH, SIZE, images, random_vit, randomise, relative
from safetensors.torch import load_file, save_file
from torch import nn

from msn_mm import load_backbone
from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.convert.writer import write
from msn_mm.errors import UserError

transformers = pytest.importorskip("transformers")
CLASSES = 5


def _model(kind: str = "ViTMSNModel", **settings: Any) -> Any:
    config = transformers.ViTMSNConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=72,
        image_size=SIZE,
        patch_size=8,
        num_labels=CLASSES,
        **settings,
    )
    model = getattr(transformers, kind)(config)
    randomise(model)
    return model.eval()


@torch.no_grad()
def _cls(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x, interpolate_pos_encoding=True).last_hidden_state[:, 0]


@pytest.mark.parametrize("kind", ["ViTMSNModel", "ViTMSNForImageClassification"])
def test_saved_models_give_the_same_features(kind: str, tmp_path: Path) -> None:
    model = _model(kind)
    model.save_pretrained(tmp_path)
    found = convert(read_source(tmp_path))
    assert found.format == "hf_msn"
    assert found.ignored == []
    trunk = load_trunk(found, "x")
    for size in (SIZE, 64, 32):
        x = images(size)
        assert relative(trunk(x), _cls(getattr(model, "vit", model), x)) < 1e-5
    if kind == "ViTMSNModel":
        assert found.classifier == {}
    else:
        assert torch.equal(found.classifier["weight"], model.classifier.weight)
        assert torch.equal(found.classifier["bias"], model.classifier.bias)


def test_state_dicts_of_the_modules_are_known_too() -> None:
    model = _model()
    found = convert(RawCheckpoint("x", model.state_dict()), arch=ARCH)
    x = images(SIZE)
    assert relative(load_trunk(found, "x")(x), _cls(model, x)) < 1e-5


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_written_directories_load_and_come_back_bitwise(classes: int, tmp_path: Path) -> None:
    content = released(random_vit())
    first = convert(RawCheckpoint("x", content), arch=ARCH)
    first.mean, first.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    if classes:
        first.classifier = {"weight": torch.randn(classes, 24), "bias": torch.randn(classes)}
    written = write(first, tmp_path / "hf", "hf")
    kind = "ViTMSNForImageClassification" if classes else "ViTMSNModel"
    assert kind in written.use
    model, told = getattr(transformers, kind).from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(told[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    x = images(64)
    wanted = load_trunk(first, "x")(x)
    assert relative(_cls(getattr(model.eval(), "vit", model), x), wanted) < 1e-5
    if classes:
        assert torch.equal(model.classifier.weight, first.classifier["weight"])

    again = convert(read_source(tmp_path / "hf"))
    for name in ("trunk", "extras", "classifier"):
        one, other = getattr(first, name), getattr(again, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert again.architecture == first.architecture
    assert (again.mean, again.std) == (first.mean, first.std)
    view = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert view["size"] == {"height": SIZE, "width": SIZE}
    assert (tmp_path / "hf" / "README.md").read_text().startswith("---\nlibrary_name: transformers")


def test_a_classifier_of_another_kind_is_left_out(tmp_path: Path) -> None:
    found = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    found.classifier = {"weight": torch.randn(5, 24), "bias": torch.randn(5)}
    found.pooling = "mean"  # transformers reads the CLS token
    written = write(found, tmp_path / "hf", "hf")
    assert written.left_out == ["classifier.weight", "classifier.bias"]
    assert convert(read_source(tmp_path / "hf")).classifier == {}
    assert found.classifier


@pytest.mark.parametrize("act", ["gelu", "quick_gelu", "gelu_pytorch_tanh", "gelu_new", "relu"])
def test_other_activations_and_epsilons(act: str, tmp_path: Path) -> None:
    model = _model(hidden_act=act, layer_norm_eps=1e-2)
    model.save_pretrained(tmp_path / "hf")
    found = convert(read_source(tmp_path / "hf"))
    x = images(SIZE)
    assert relative(load_trunk(found, "x")(x), _cls(model, x)) < 1e-5
    path = write(found, tmp_path / "a.safetensors", "msn_mm").path
    again = convert(read_source(path))
    assert again.architecture == found.architecture
    assert relative(load_trunk(again, "x")(x), _cls(model, x)) < 1e-5
    with pytest.raises(UserError, match="plain ViTs only"):
        write(found, tmp_path / "b", "hf")
    line = write(found, tmp_path / "c.safetensors", "timm").use
    theirs = eval(
        line, {"timm": timm, "torch": torch, "functools": functools}
    ).eval()  # the line that users copy
    with torch.no_grad():
        assert relative(theirs.forward_features(x)[:, 0], _cls(model, x)) < 1e-5


def test_what_a_training_needs_lies_in_a_file_of_its_own(tmp_path: Path) -> None:
    first = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    written = write(first, tmp_path / "hf", "hf")
    training = tmp_path / "hf" / "msn_training.safetensors"
    names = set(load_file(training))
    assert names == {k for k in first.extras if k.startswith(("online.", "optimizer."))}
    assert {name.partition(".")[0] for name in names} == {"online", "optimizer"}
    assert any("msn_training.safetensors" in note and "delete it" in note for note in written.notes)
    assert "msn_training.safetensors" in (tmp_path / "hf" / "README.md").read_text()

    whole = convert(read_source(tmp_path / "hf"))
    assert whole.settings == first.settings and first.settings["optimizer"]
    write(whole, tmp_path / "a.pth.tar", "official")
    one, other = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "a.pth.tar", write(first, tmp_path / "b.pth.tar", "official").path)
    )
    assert one["opt"]["param_groups"] == other["opt"]["param_groups"]

    training.unlink()
    model = transformers.ViTMSNModel.from_pretrained(tmp_path / "hf").eval()
    small = convert(read_source(tmp_path / "hf"))
    assert small.extras.keys() == first.extras.keys() - names
    assert small.settings == {}
    assert relative(load_trunk(small, "x")(images(64)), _cls(model, images(64))) < 1e-5
    again = write(small, tmp_path / "small", "hf")
    assert again.notes == [] and "msn_training" not in (again.path / "README.md").read_text()


def test_damaged_settings_of_a_training_are_one_line(tmp_path: Path) -> None:
    write(convert(RawCheckpoint("x", released(random_vit())), arch=ARCH), tmp_path / "hf", "hf")
    training = tmp_path / "hf" / "msn_training.safetensors"
    save_file(load_file(training), training, metadata={"msn_mm_settings": "{"})
    with pytest.raises(UserError, match=r"metadata of a file in .* are damaged"):
        convert(read_source(tmp_path / "hf"))


def test_a_directory_with_content_is_left_alone(tmp_path: Path) -> None:
    found = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        write(found, tmp_path, "hf")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_other_models_of_transformers_are_refused(tmp_path: Path) -> None:
    model = _model()
    state = model.state_dict()
    with pytest.raises(UserError, match="no checkpoint of an image encoder"):
        convert(RawCheckpoint("x", state, {"model_type": "deit"}))
    with pytest.raises(UserError, match="hidden_act=mish; only gelu, gelu_new"):
        convert(RawCheckpoint("x", state, {"model_type": "vit_msn", "hidden_act": "mish"}))
    model.save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, verbose=False)
    tokens = backbone.forward_intermediates(images(SIZE), blocks=2, norm=False)
    assert [pair[1].shape for pair in tokens] == [(3, 36, 24), (3, 36, 24)]
