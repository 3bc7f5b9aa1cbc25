from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from convert.released import adam_by_name, released
from convert.vits import ARCH, SIZE, images, random_vit, randomise
from safetensors.torch import save_file

from msn_mm import load_backbone
from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.convert.source import read_source
from msn_mm.convert.writer import write
from msn_mm.errors import UserError
from tools import convert as convert_tool


def _converted() -> Converted:
    found = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    found.mean, found.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    return found


def _same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one
    )


def test_own_file_loses_nothing(tmp_path: Path) -> None:
    first = _converted()
    first.classifier = {"weight": torch.randn(5, 24), "bias": torch.randn(5)}
    written = write(first, tmp_path / "a.safetensors", "msn_mm")
    assert written.left_out == []
    again = convert(read_source(written.path))  # the file tells its heads
    assert again.format == "msn_mm"
    assert _same(first.trunk, again.trunk)
    assert _same(first.extras, again.extras)
    assert _same(first.classifier, again.classifier)
    assert (again.architecture, again.mean, again.std) == (
        first.architecture,
        first.mean,
        first.std,
    )
    assert (again.ignored, again.missing) == ([], [])


def test_a_written_file_is_readable_as_any_other(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write(_converted(), tmp_path / "hf", "hf")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "hf").iterdir()} == {0o644}


@pytest.mark.parametrize("stem", ["imagenet", "small_padded"])
def test_own_file_holds_resnets_too(stem: str, tmp_path: Path) -> None:
    architecture = ResNetArchitecture(
        (1, 2, 1, 1), "bottleneck", base_channels=8, stem_channels=4, stem=stem
    )  # type: ignore[arg-type]
    model = architecture.build().eval()
    randomise(model)
    state = model.state_dict()
    head = {"weight": torch.randn(5, 256), "bias": torch.randn(5)}
    first = Converted("x", architecture, state, head, mean=(0.1, 0.2, 0.3))
    again = convert(read_source(write(first, tmp_path / "r.safetensors", "msn_mm").path))
    assert _same(again.trunk, state)
    assert _same(again.classifier, head)
    assert (again.architecture, again.mean, again.ignored) == (architecture, first.mean, [])
    x = images(40)
    assert torch.equal(load_trunk(again, "x")(x), model(x))
    with pytest.raises(UserError, match="holds ViTs only, not a ResNet"):
        write(first, tmp_path / "r.pth.tar", "official")


def test_own_file_keeps_what_weights_do_not_tell(tmp_path: Path) -> None:
    first = _converted()
    first.architecture = replace(first.architecture, resampling="dino")  # type: ignore[type-var]
    first.pooling = "mean"
    first.extras["other.weight"] = torch.ones(2)
    again = convert(read_source(write(first, tmp_path / "a.safetensors", "msn_mm").path))
    assert again.architecture == first.architecture
    assert again.pooling == "mean"
    assert _same(again.extras, first.extras)


def test_a_written_file_builds_no_other_class(tmp_path: Path) -> None:
    path = write(_converted(), tmp_path / "a.safetensors", "msn_mm").path
    for told, why in (
        ({"backbone": {"type": "MaskedViT", "name": "hf-hub:x/y"}}, "timm does not have"),
        ({"backbone": [1]}, "metadata of .* are damaged"),
        ([], "metadata of .* are damaged"),
    ):
        save_file(read_source(path).tensors(), path, metadata={"msn_mm": json.dumps(told)})
        with pytest.raises(UserError, match=why):
            convert(read_source(path))
    told = {"backbone": {"type": "mmpretrain.ResNet", "num_heads": 3}}
    save_file(read_source(path).tensors(), path, metadata={"msn_mm": json.dumps(told)})
    assert isinstance(convert(read_source(path)).architecture, ViTArchitecture)


def test_official_file_is_the_released_layout(tmp_path: Path) -> None:
    content = released(random_vit())
    first = convert(RawCheckpoint("x", content), arch=ARCH)
    first.classifier = {"weight": torch.randn(5, 24), "bias": torch.randn(5)}
    written = write(first, tmp_path / "a.pth.tar", "official")
    assert written.left_out == ["classifier.weight", "classifier.bias"]
    saved = torch.load(written.path, weights_only=True)
    assert _same(saved["target_encoder"], content["target_encoder"])
    assert torch.equal(saved["prototypes"], content["prototypes"])
    assert _same(saved["encoder"], content["encoder"])
    assert list(saved["encoder"]) == list(content["encoder"])
    assert saved["epoch"] == content["epoch"]
    for number, state in content["opt"]["state"].items():
        assert _same(saved["opt"]["state"][number], state)
    for mine, theirs in zip(
        saved["opt"]["param_groups"], content["opt"]["param_groups"], strict=True
    ):
        assert mine == theirs
    again = convert(read_source(written.path), arch=ARCH)
    assert _same(first.trunk, again.trunk)
    assert _same(first.extras, again.extras)


def test_official_file_holds_no_head_of_other_layers(tmp_path: Path) -> None:
    first = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    target = {k for k in first.extras if k.startswith("projector.")}
    first.extras["projector.4.weight"] = torch.randn(3, 3)  # of a linear layer, not a batch norm's
    written = write(first, tmp_path / "a.pth.tar", "official")
    assert set(written.left_out) == target
    assert "opt" in torch.load(written.path, weights_only=True)
    first.extras["online.projector.4.weight"] = torch.randn(3, 3)
    written = write(first, tmp_path / "a.pth.tar", "official")
    more = {k for k in first.extras if k.startswith(("online.projector.", "optimizer."))}
    assert set(written.left_out) == target | more
    saved = torch.load(written.path, weights_only=True)
    assert "opt" not in saved and not any("fc." in k for k in saved["encoder"])


def test_official_file_leaves_out_moments_of_weights_that_it_lacks(tmp_path: Path) -> None:
    first = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    first.extras["optimizer.exp_avg.last_layer.weight"] = torch.randn(3, 3)
    states = {k for k in first.extras if k.startswith("optimizer.")}
    written = write(first, tmp_path / "a.pth.tar", "official")
    assert set(written.left_out) == states
    assert "opt" not in torch.load(written.path, weights_only=True)


@pytest.mark.parametrize("through", ["a.safetensors", "hf"])
def test_moments_stay_with_their_weights_through_sorted_names(tmp_path: Path, through: str) -> None:
    content = released(random_vit())
    content["opt"], by_name = adam_by_name(random_vit())
    first = convert(RawCheckpoint("x", content), arch=ARCH)
    middle = write(first, tmp_path / through, "hf" if through == "hf" else "msn_mm")
    last = write(convert(read_source(middle.path)), tmp_path / "a.pth.tar", "official")
    found = torch.load(last.path, weights_only=True)
    # A real optimizer on modules in their own order takes the states.
    expected = content["opt"]["state"]
    assert found["opt"]["state"].keys() == expected.keys()
    for number, state in expected.items():
        for kind, value in state.items():
            assert torch.equal(found["opt"]["state"][number][kind], value), (number, kind)
    assert list(found["encoder"]) == list(content["encoder"])
    assert [group["weight_decay"] for group in found["opt"]["param_groups"]] == [0.0, 0.1, 0.2]
    assert len(by_name) == len(expected)


def test_targets_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    first = _converted()
    with pytest.raises(UserError, match=r"there are .*hf.*msn_mm.*official"):
        write(first, tmp_path / "a", "keras")
    with pytest.raises(UserError, match=r"must be a file that ends in \.pth\.tar"):
        write(first, tmp_path / "a.pth", "official")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; 'hf' is written to a directory"):
        write(first, tmp_path / "file", "hf")
    registers = random_vit(reg_tokens=2)
    state = {f"vit.{k}": v for k, v in registers.state_dict().items()}
    more = convert(RawCheckpoint("x", state), arch=ARCH)
    assert more.architecture.describe().endswith("2 registers")
    for to, name in (("official", "b.pth.tar"), ("hf", "b")):
        with pytest.raises(UserError, match=r"plain ViTs only, and this one has 'vit\.reg_token'"):
            write(more, tmp_path / name, to)
    whole = write(more, tmp_path / "b.safetensors", "msn_mm")
    x = images(SIZE)
    wanted = registers.forward_features(x)[:, 0]
    assert torch.allclose(load_backbone(whole.path, verbose=False)(x), wanted, atol=1e-5)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _converted()
    target = tmp_path / "a.safetensors"
    target.write_text("mine")

    def fail(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr("msn_mm.convert.files.save_file", fail)
    for name, to in (("a.safetensors", "msn_mm"), ("b", "hf")):
        with pytest.raises(UserError, match="cannot be written: no space"):
            write(first, tmp_path / name, to)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert target.read_text() == "mine"


def test_resampling_of_another_kind_is_told(tmp_path: Path) -> None:
    first = _converted()
    first.architecture = replace(first.architecture, resampling="dino")  # type: ignore[type-var]
    assert "differ" in write(first, tmp_path / "a.pth.tar", "official").notes[0]


def test_the_tool_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(released(random_vit()), tmp_path / "in.pth.tar")
    source, out = str(tmp_path / "in.pth.tar"), tmp_path / "out.safetensors"
    assert convert_tool.main([source, str(out), "--to", "msn_mm", "--heads", "3"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "format 'msn'",
        "ViT of width 24, depth 2, 3 heads, patch 8, 48 x 48 pixels",
        "a projector, 10 prototypes",
        f"written: {out}",
    ):
        assert words in printed
    x = images(64)
    direct = load_trunk(convert(read_source(source), arch=ARCH), "x")
    assert torch.equal(load_backbone(out, verbose=False)(x), direct(x))
    assert convert_tool.main([source, "--arch", "network=online", "heads=3"]) == 0
    assert "ignored: 46 tensors: target_encoder.module." in capsys.readouterr().out
    with pytest.raises(UserError, match="--arch: takes key=value, not 'heads'"):
        convert_tool.main([source, "--arch", "heads"])
    with pytest.raises(UserError, match="DST and --to together"):
        convert_tool.main([source, str(out)])
    with pytest.raises(UserError, match=r"no checkpoint format 'dinov9'; there are .*msn"):
        convert_tool.main([source, "--from", "dinov9"])
