"""What a user says of the checkpoint that a training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from convert.released import released
from convert.vits import SIZE, random_vit
from helpers import tiny_digits

from msn_mm.errors import UserError
from msn_mm.models.ops.position import resample_positions
from tests.test_continue_pretraining import HEAD, WITHOUT_VAL, begin, below
from tools import train as train_tool


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_user_says_how_a_checkpoint_is_read() -> None:
    content = released(random_vit(in_chans=1))
    torch.save(content, "msn.pth.tar")
    told = dict(load_from="msn.pth.tar", load_arch={"network": "online"})
    start, log = begin(**told, **HEAD)
    for prefix in ("", "target_"):
        found = below(start.weights, f"{prefix}backbone.vit.blocks.")
        wanted = below(content["encoder"], "module.blocks.")
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert "optimizer" in log.partition("initialised: ")[2].partition("\n")[0]

    # The same file, positions resampled as each code does it.
    torch.save(random_vit(in_chans=1).state_dict(), "vit.pth")
    learned = random_vit(in_chans=1).pos_embed
    assert learned is not None
    hook = dict(type="StartingWeightsHook", format="timm")
    in_config = dict(custom_hooks=[hook])
    for kind, options in {
        "dino": dict(load_from="vit.pth"),
        "timm": dict(load_from="vit.pth", load_format="timm"),
        "timm again": dict(load_from="vit.pth", **in_config),
        "scale": dict(load_from="vit.pth", load_arch={"resampling": "scale"}, **in_config),
    }.items():
        start, _ = begin(**options)
        side = SIZE // 8
        name = kind.partition(" ")[0]
        patches = resample_positions(learned[:, 1:].detach(), (side, side), (4, 4), name)
        assert torch.equal(start.weights["backbone.vit.pos_embed"][:, 1:], patches), kind


def test_an_own_file_is_read_as_told_too() -> None:
    """Its names are the model's, which must not hide what the user says."""
    start, _ = begin(None, **HEAD)
    state = {
        name: torch.randn_like(v) if v.is_floating_point() else v
        for name, v in start.weights.items()
    }
    torch.save({"state_dict": state}, "own.pth")
    start, _ = begin("own.pth", **HEAD)
    name = "vit.blocks.0.mlp.fc1.weight"
    assert torch.equal(start.weights[f"target_backbone.{name}"], state[f"target_backbone.{name}"])
    start, _ = begin("own.pth", load_arch={"network": "online"}, **HEAD)
    assert torch.equal(start.weights[f"target_backbone.{name}"], state[f"backbone.{name}"])


def test_what_is_told_wrongly_is_one_line() -> None:
    torch.save(released(random_vit(in_chans=1)), "msn.pth.tar")
    tiny_digits(**WITHOUT_VAL).dump("toy.py")
    load = ["toy.py", "--load-from", "msn.pth.tar"]
    for words, line in {
        (*load, "--arch", "heds=3"): r"arch has no 'heds'.*heads",
        (*load, "--arch", "heads=3", "network=student"): "network is 'student'; the checkpoint has",
        (*load, "--arch", "heads"): "takes key=value",
        (*load, "--from", "dinov9"): "no checkpoint format 'dinov9'",
        (*load, "--from", "mae"): "no checkpoint of an image encoder",
        ("toy.py", "--from", "mae"): "give --load-from",
        ("toy.py", "--resume", "--arch", "heads=3"): "give --load-from",
    }.items():
        with pytest.raises(UserError, match=line) as caught:
            train_tool.main(list(words))
        assert "\n" not in str(caught.value)
