"""Files whose content is not what their names say: one line, little memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from convert.released import adam_by_name, released
from convert.vits import ARCH, random_vit
from safetensors.torch import save_file

from msn_mm import load_backbone
from msn_mm.convert.format import RawCheckpoint, convert
from msn_mm.convert.source import read_source
from msn_mm.convert.torch_file import read_json
from msn_mm.errors import UserError
from tests.memory import peak, start_peak


class _Bytes:
    """Bytes that are made while they are unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple:
        return (bytearray, (self.number,))


def _refused(call: Callable[[], Any], words: str) -> None:
    before = start_peak()
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    assert peak() - before < 200


def _backbone(path: Path, **weights: Any) -> Callable[[], Any]:
    state = {**random_vit().state_dict(), **{k.replace("__", "."): v for k, v in weights.items()}}
    torch.save(state, path)
    return lambda: load_backbone(path, ARCH, verbose=False)


def test_no_memory_for_what_the_file_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    huge = torch.zeros(1, 1).expand(10**9, 24)
    _refused(_backbone(path, blocks__0__mlp__fc1__weight=huge), "does not hold so many numbers")
    _refused(_backbone(path, pos_embed=torch.zeros(1, 1, 1).expand(1, 10**8 + 1, 24)), "so many")
    _backbone(path, other=torch.zeros(1).expand(1000))()
    for old in (False, True):
        torch.save({"b": _Bytes(1 << 30)}, path, _use_new_zipfile_serialization=not old)
        assert path.stat().st_size < 5000
        _refused(lambda: read_source(path), "bytearray")


@pytest.mark.parametrize("setting", [{"mlp_ratio": 1e5}, {"reg_tokens": 10**6}, {"pretrained": 1}])
def test_metadata_takes_no_memory(setting: dict[str, Any], tmp_path: Path) -> None:
    import json

    backbone = dict(type="MaskedViT", img_size=48, patch_size=8, embed_dim=24, depth=2)
    told = {"msn_mm": json.dumps({"backbone": {**backbone, "num_heads": 3, **setting}})}
    state = {f"backbone.vit.{k}": v for k, v in random_vit().state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata=told)
    _refused(lambda: load_backbone(tmp_path / "a.safetensors"), "a.safetensors")


@pytest.mark.parametrize(
    "weights",
    [
        {"pos_embed": torch.zeros(5)},
        {"reg_token": torch.zeros(3)},
        {"patch_embed__proj__weight": torch.zeros(24, 3, 0, 0)},
        {"cls_token": torch.zeros(1, 1, 24).to_sparse()},
        {"cls_token": torch.zeros(1, 1, 24, device="meta")},
        {"cls_token": torch.zeros(1, 1, 24, dtype=torch.complex64)},
        {"blocks__99999999__norm1__weight": torch.zeros(24)},
        {"blocks__²5__norm1__weight": torch.zeros(24)},
    ],
)
def test_odd_tensors_are_one_line(weights: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    if any("²" in name for name in weights):
        _backbone(path, **weights)()  # no block of that name: left out
    else:
        _refused(_backbone(path, **weights), "a.pth")


def test_compressed_members_are_refused_in_both_ways_of_reading(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"w": torch.ones(1000)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for mmap in (False, True):
        _refused(lambda mmap=mmap: read_source(packed, mmap=mmap), "is compressed")
        assert read_source(path, mmap=mmap).content["w"].sum() == 1000


def test_settings_of_an_optimizer_are_flat() -> None:
    content = released(random_vit())
    content["opt"], _ = adam_by_name(random_vit())
    nested: Any = ["x"]
    for _ in range(60):
        nested = [nested, nested]
    content["opt"]["param_groups"][0] |= {"betas": nested, "eps": (torch.ones(1),), 3: 4}
    told = convert(RawCheckpoint("x", content), arch=ARCH).settings["optimizer"]
    assert not {"betas", "eps", 3} & set(told[0]) and told[1]["betas"] == [0.9, 0.999]
    content["opt"]["state"][0]["step"] = "x"
    assert convert(RawCheckpoint("x", content), arch=ARCH).ignored == ["opt"]


def test_a_classifiers_norm_without_a_classifier_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_vit(global_pool="avg", fc_norm=True)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    load_backbone(tmp_path / "a.pth", ARCH)
    assert "all of the backbone" in capsys.readouterr().err


def test_deep_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 200_000 + "]" * 200_000)
    _refused(lambda: read_json(tmp_path / "a.json"), "cannot be read as JSON")
