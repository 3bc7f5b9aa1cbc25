from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from convert.released import released
from convert.vits import ARCH, SIZE, images, random_vit

from msn_mm import load_backbone
from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
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


def test_official_file_is_the_released_layout(tmp_path: Path) -> None:
    content = released(random_vit())
    first = convert(RawCheckpoint("x", content), arch=ARCH)
    first.classifier = {"weight": torch.randn(5, 24), "bias": torch.randn(5)}
    written = write(first, tmp_path / "a.pth.tar", "official")
    assert written.left_out == ["classifier.weight", "classifier.bias"]
    saved = torch.load(written.path, weights_only=True)
    assert _same(saved["target_encoder"], content["target_encoder"])
    assert torch.equal(saved["prototypes"], content["prototypes"])
    again = convert(read_source(written.path), arch=ARCH)
    assert _same(first.trunk, again.trunk)
    assert _same(first.extras, again.extras)


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

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("msn_mm.convert.files.save_file", fail)
    for name, to in (("a.safetensors", "msn_mm"), ("b", "hf")):
        with pytest.raises(OSError, match="no space"):
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
        "ignored: 46 tensors: encoder.module.",
        f"written: {out}",
    ):
        assert words in printed
    x = images(64)
    direct = load_trunk(convert(read_source(source), arch=ARCH), "x")
    assert torch.equal(load_backbone(out, verbose=False)(x), direct(x))
    with pytest.raises(UserError, match="DST and --to together"):
        convert_tool.main([source, str(out)])
    with pytest.raises(UserError, match=r"no checkpoint format 'dinov9'; there are .*msn"):
        convert_tool.main([source, "--from", "dinov9"])
