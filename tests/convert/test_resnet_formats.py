"""ResNets in the names of torchvision, timm and MoCo v3, and what no format takes.

Where a library is not on PyPI, its layout is built here from the public file that
is named at the place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from msn_mm.convert.format import FORMATS, RawCheckpoint, formats, load_trunk
from msn_mm.errors import UserError

from .resnets import Names, assert_same_features, features, prefixed, randomise, read, small


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: small((2, 2, 2, 2), BasicBlock), "ResNet-18, 3 channels"),
        (lambda: small((1, 2, 1, 1), BasicBlock), "ResNet of (1, 2, 1, 1) basic blocks"),
        (lambda: small((1, 1, 2, 1), groups=8, width_per_group=4), "8 groups of 4"),
        (lambda: small((1, 1, 1, 1), width_per_group=128), "bottlenecks 2 times as wide"),
    ],
    ids=["18", "basic", "resnext", "wide"],
)
def test_torchvision(model: Callable[[], ResNet], words: str) -> None:
    original = model()
    found = read(original.state_dict())
    assert found.format == "torchvision_resnet" and words in found.architecture.describe()
    assert found.used == len(original.state_dict()) and not found.ignored and not found.missing
    assert torch.equal(found.classifier["weight"], original.fc.weight)
    assert torch.equal(found.classifier["bias"], original.fc.bias)
    assert_same_features(found, features(original))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50", "ResNet-50, 3"),
        ("resnet101", "ResNet-101, 3"),
        ("resnext50_32x4d", "ResNet-50, 32 groups of 4, 3"),
        ("wide_resnet101_2", "ResNet-101, bottlenecks 2 times as wide, 3"),
    ],
)
def test_the_published_networks_are_told(name: str, words: str) -> None:
    """By shapes alone; torchvision's and timm's names are the same."""
    with torch.device("meta"):
        ours = torchvision.models.get_model(name).state_dict()
        theirs = timm.create_model(name).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert read(ours).architecture.describe().startswith(words)


def test_timm() -> None:
    torch.manual_seed(0)
    original = randomise(timm.create_model("resnet18", num_classes=4, in_chans=1))
    found = read({"state_dict": original.state_dict()})
    assert found.classifier["weight"].shape == (4, 512)
    assert_same_features(
        found, lambda x: original.forward_head(original.forward_features(x), pre_logits=True)
    )


def test_mocov3() -> None:
    """facebookresearch/moco-v3, moco/builder.py at 337f3c967d91e16a2ffdb874dd55a9b35f386c07.

    main_moco.py saves ``state_dict`` of a DistributedDataParallel model with
    ``base_encoder``, ``momentum_encoder`` and ``predictor``; a projector takes the
    place of each encoder's ``fc``.
    """

    def projector() -> nn.Sequential:
        last = nn.BatchNorm1d(4, affine=False)
        hidden = nn.Linear(2048, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()
        return nn.Sequential(*hidden, nn.Linear(6, 4, bias=False), last)

    online, target = small(), small()
    for weight in target.parameters():
        weight.mul_(2)
    online.fc, target.fc = projector(), projector()  # type: ignore[assignment]
    state = {
        **prefixed(online.state_dict(), "module.base_encoder.", "-"),
        **prefixed(target.state_dict(), "module.momentum_encoder.", "-"),
        "module.predictor.0.weight": torch.zeros(6, 4),
    }
    found = read({"epoch": 1, "arch": "resnet50", "state_dict": state})
    assert found.format == "mocov3_resnet" and not found.classifier
    assert "momentum_encoder.conv1.weight" in found.ignored
    assert "base_encoder.fc.0.weight" in found.ignored
    assert found.used + len(found.ignored) == len(state)
    assert_same_features(found, features(online))


def test_mocov3_linear_evaluation() -> None:
    """facebookresearch/moco-v3, main_lincls.py at c5b2e602ebfe2384b38b9d21b42b37848b9d286a."""
    original = small()
    state = prefixed(original.state_dict(), "module.", "-")
    found = read({"epoch": 1, "state_dict": state, "best_acc1": torch.tensor(74.6)})
    assert found.format == "torchvision_resnet" and found.classifier["weight"].shape == (5, 2048)
    assert_same_features(found, features(original))


def test_nothing_is_lost() -> None:
    """Every tensor comes out bitwise, under its own name."""
    original = small().state_dict()
    found = read({"state_dict": prefixed(original, "backbone.", "-")})
    assert all(torch.equal(original[name], value) for name, value in found.trunk.items())
    trunk = load_trunk(found, "some.pth").state_dict()
    assert set(trunk) == {name for name in original if not name.startswith("fc.")}
    assert all(torch.equal(original[name], value) for name, value in trunk.items())


def broken(change: Callable[[Names], Any]) -> Names:
    state = dict(small().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer2.1.bn2.weight"), "lacks 'layer2.1.bn2.weight'"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("layer2.0.")], "no block 0"),
        (lambda s: s.update({"layer1.0.se.fc1.weight": s["fc.weight"]}), "se.fc1.weight"),
        (lambda s: s.update({"layer3.0.bn1.weight": torch.ones(3)}), "is (3,) instead of (256,)"),
        (lambda s: s.pop("layer1.0.conv2.weight"), "no whole ResNet"),
    ],
)
def test_errors_are_one_line(change: Callable[[Names], Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        read(broken(change))
    assert words in str(error.value) and "\n" not in str(error.value)
    assert "some.pth" in str(error.value) or "block" in words


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match="arch has no 'heads' for a ResNet"):
        read(small().state_dict(), heads=3)
    with pytest.raises(UserError, match="padding is 'valid'; give one of symmetric, same"):
        read(small().state_dict(), padding="valid")


def test_no_file_is_of_two_formats() -> None:
    """Whatever order they are asked in."""
    net = small((1, 1, 1, 1)).state_dict()
    head = {"classifier.weight": torch.zeros(2, 2048), "classifier.bias": torch.zeros(2)}
    files = {
        "torchvision_resnet": net,
        "mocov3_resnet": {"state_dict": prefixed(net, "base_encoder.")},
        "solo_resnet": {"state_dict": prefixed(net, "backbone.") | head},
        "mmpretrain_resnet": {"state_dict": prefixed(net, "backbone.")},
    }
    ours = [entry for entry in formats() if entry.name.endswith("_resnet")]
    assert {entry.name for entry in ours} >= {*files, "lightly_resnet"}
    assert all(entry.verified for entry in ours) and len(FORMATS) >= 5
    for name, content in files.items():
        raw = RawCheckpoint("some.pth", content)
        first = next(entry.name for entry in formats() if entry.matches(raw))
        assert first == name
