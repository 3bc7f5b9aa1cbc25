"""ResNets of solo-learn, lightly and VISSL.

Where a library is not on PyPI, its layout is built here from the public file that
is named at the place.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from .resnets import SIZES, assert_same_features, features, prefixed, randomise, read, small


@pytest.mark.parametrize("prefix", ["backbone.", "encoder."])
@pytest.mark.parametrize("cifar", [False, True])
def test_solo_learn(prefix: str, cifar: bool) -> None:
    """vturrisi/solo-learn, solo/methods/base.py.

    At c980e9e3f55342cec67da90045271d2511392562 ``backbone``, at
    008f64fa785169ad7999836d57e6f872f74a854d ``encoder``; on CIFAR the stem is
    ``Conv2d(3, 64, kernel_size=3, stride=1, padding=2)`` and ``maxpool`` the identity.
    """
    original = small((1, 1, 1, 1), BasicBlock)
    if cifar:
        original.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=2, bias=False)
        original.maxpool = nn.Identity()  # type: ignore[assignment]
        original.requires_grad_(False)
    state = {
        **prefixed(original.state_dict(), prefix),
        **prefixed(original.state_dict(), f"momentum_{prefix}"),
        "classifier.weight": torch.randn(10, 512),
        "classifier.bias": torch.randn(10),
        "projector.0.weight": torch.zeros(4, 512),
    }
    found = read({"pytorch-lightning_version": "2.0", "state_dict": state})
    assert found.format == "solo_resnet"
    assert torch.equal(found.classifier["weight"], state["classifier.weight"])
    assert_same_features(found, features(original), sizes=(32, 17) if cifar else SIZES)


def test_lightly_benchmarks() -> None:
    """lightly-ai/lightly, benchmarks/imagenet/resnet50/byol.py.

    At 32c2b47cc4944c59eb713eaa35deefdb6d829934: torchvision's ResNet with ``fc``
    the identity; heads and online classifier are the installed package's own.
    """
    pytest.importorskip("lightly")
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.utils.benchmarking import OnlineLinearClassifier

    original, teacher = small((1, 1, 1, 1)), small((1, 1, 1, 1))
    logits = OnlineLinearClassifier(feature_dim=2048, num_classes=3)
    model = nn.ModuleDict(
        dict(
            backbone=original,
            projection_head=BYOLProjectionHead(2048, 4, 4),
            prediction_head=BYOLPredictionHead(4, 4, 4),
            teacher_backbone=teacher,
            online_classifier=logits,
        )
    )
    state = {k: v for k, v in model.state_dict().items() if "backbone.fc." not in k}
    found = read({"state_dict": state})
    assert found.format == "lightly_resnet"
    assert torch.equal(found.classifier["weight"], logits.classification_head.weight)
    assert_same_features(found, features(original))


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_lightly_examples(prefix: str) -> None:
    """lightly-ai/lightly, examples/pytorch_lightning/simclr.py.

    At 2abf92188e089e9fa9448091d0c1954bb2cfcba7: ``backbone =
    nn.Sequential(*list(resnet.children())[:-1])``; alone where only it is saved.
    """
    pytest.importorskip("lightly")
    from lightly.models.modules import SimCLRProjectionHead

    original = small((1, 1, 1, 1), BasicBlock)
    backbone = nn.Sequential(*list(original.children())[:-1])
    state = prefixed(backbone.state_dict(), prefix)
    if prefix:
        head = SimCLRProjectionHead(512, 4, 4).state_dict()
        state |= prefixed(head, "projection_head.")
    found = read({"state_dict": state} if prefix else state)
    assert found.format == "lightly_resnet"
    assert_same_features(found, lambda x: backbone(x).flatten(1))


@pytest.mark.parametrize("place", ["classy_state_dict", "model_state_dict", ""])
def test_vissl(place: str) -> None:
    """facebookresearch/vissl, vissl/models/trunks/resnext.py.

    At 0e611ca89262469d0ecef30c0211b78cca97516f: torchvision's layers, twice as wide
    from the stem on, in a ModuleDict ``_feature_blocks``. Where the file keeps them:
    extra_scripts/convert_vissl_to_torchvision.py at a5c973bce3cd778a17a0045dd3ee2f56ef247624.
    """
    original = small((1, 1, 1, 1))
    original.inplanes = 128
    original.conv1 = nn.Conv2d(3, 128, 7, stride=2, padding=3, bias=False)
    original.bn1 = nn.BatchNorm2d(128)
    for number in range(4):
        stage = original._make_layer(Bottleneck, 128 << number, 1, stride=1 if number == 0 else 2)
        setattr(original, f"layer{number + 1}", stage)
    original.fc = nn.Identity()  # type: ignore[assignment]
    randomise(original)
    state = prefixed(original.state_dict(), "_feature_blocks.")
    whole = {"phase_idx": 999, place: {"base_model": {"model": {"trunk": state, "heads": {}}}}}
    found = read(whole if place.startswith("classy") else {place: state} if place else state)
    assert found.format == "vissl_resnet" and not found.classifier
    assert found.architecture.describe().endswith("2 times as wide, 3 channels")
    assert_same_features(found, features(original))
