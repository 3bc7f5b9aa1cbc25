"""ResNets of every published layout against the library that each layout comes from.

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
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from msn_mm.convert.format import FORMATS, Converted, RawCheckpoint, convert, formats, load_trunk
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.errors import UserError
from msn_mm.registry import MODELS

SIZES = (64, 49)
Names = dict[str, Tensor]


def randomise(model: nn.Module) -> nn.Module:
    """Give every weight and every running statistic a value that shows when it is lost."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0.0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
            if module.num_batches_tracked is not None:
                module.num_batches_tracked.fill_(7)
    model.eval()  # mmpretrain's ResNet returns nothing here
    return model.requires_grad_(False)


def small(
    layers: tuple[int, ...] = (1, 2, 1, 1),
    kind: type[BasicBlock] | type[Bottleneck] = Bottleneck,
    classes: int = 5,
    **more: Any,
) -> ResNet:
    torch.manual_seed(0)
    model = ResNet(kind, list(layers), num_classes=classes, **more)
    assert isinstance(randomise(model), ResNet)
    return model


def prefixed(state: Names, prefix: str, without: str = "fc.") -> Names:
    return {prefix + k: v for k, v in state.items() if not k.startswith(without)}


def features(model: ResNet) -> Callable[[Tensor], Tensor]:
    """torchvision's own features: what it feeds its classifier."""

    def run(images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        hook = model.avgpool.register_forward_hook(lambda *found: kept.append(found[2].flatten(1)))
        model(images)
        hook.remove()
        return kept[0]

    return run


def read(content: dict[str, Any], **arch: Any) -> Converted:
    return convert(RawCheckpoint("some.pth", content), arch=arch)


def assert_same_features(
    converted: Converted, original: Callable[[Tensor], Tensor], sizes: tuple[int, ...] = SIZES
) -> None:
    trunk = load_trunk(converted, "some.pth")
    for size in sizes:
        images = torch.randn(2, converted.trunk["conv1.weight"].shape[1], size, size)
        with torch.no_grad():
            expected, got = original(images), trunk(images)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max(), size


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


def mmpretrain(config: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return randomise(MODELS.build(config))


RN18 = dict(type="mmpretrain.ResNet", depth=18)
NECK = dict(
    type="mmpretrain.NonLinearNeck",
    in_channels=512,
    hid_channels=8,
    out_channels=4,
    num_layers=2,
    with_avg_pool=True,
)
PREDICTOR = {**NECK, "in_channels": 4, "with_avg_pool": False}
SIMCLR = dict(
    type="mmpretrain.SimCLR",
    neck=NECK,
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.1),
)
BYOL = dict(
    type="mmpretrain.BYOL",
    neck=NECK,
    head=dict(
        type="LatentPredictHead",
        predictor=PREDICTOR,
        loss=dict(type="CosineSimilarityLoss"),
    ),
)
MOCOV3 = dict(
    type="mmpretrain.MoCoV3",
    neck=NECK,
    head=dict(
        type="MoCoV3Head", predictor=PREDICTOR, loss=dict(type="CrossEntropyLoss"), temperature=1.0
    ),
)
MOCOV2 = dict(
    type="mmpretrain.MoCo",
    queue_len=8,
    feat_dim=4,
    momentum=0.01,
    neck={**NECK, "type": "mmpretrain.MoCoV2Neck"},
    head=SIMCLR["head"],
)
MOCOV2["neck"] = {k: v for k, v in NECK.items() if k != "num_layers"} | dict(type="MoCoV2Neck")


@pytest.mark.parametrize(
    "method",
    [SIMCLR, BYOL, MOCOV3, MOCOV2],
    ids=lambda config: config["type"].split(".")[1],
)
def test_mmpretrain_self_supervision(method: dict[str, Any]) -> None:
    original = mmpretrain({**method, "backbone": RN18})
    found = read({"meta": {}, "state_dict": original.state_dict()})
    assert found.format == "mmpretrain_resnet" and not found.classifier
    assert any(name.startswith("neck.") for name in found.ignored)
    assert_same_features(found, lambda x: original.backbone(x)[-1].mean(dim=(2, 3)))


def test_mmpretrain_classifier_and_width() -> None:
    """A stem and stages of half and twice the width, and the classifier on top."""
    wide = {**RN18, "stem_channels": 32, "base_channels": 128, "in_channels": 1}
    head = dict(type="LinearClsHead", num_classes=3, in_channels=1024)
    original = mmpretrain(
        dict(
            type="mmpretrain.ImageClassifier",
            backbone=wide,
            neck=dict(type="GlobalAveragePooling"),
            head=head,
        )
    )
    found = read({"meta": {}, "state_dict": original.state_dict()})
    assert found.architecture.describe() == "ResNet-18, 2 times as wide, 1 channels"
    assert_same_features(found, lambda x: original.backbone(x)[-1].mean(dim=(2, 3)))
    trunk = load_trunk(found, "some.pth")
    images = torch.randn(2, 1, 64, 64)
    logits = nn.functional.linear(trunk(images), **found.classifier)
    assert torch.allclose(logits, original(images), rtol=1e-5, atol=1e-5)


def test_mmpretrain_for_small_images() -> None:
    original = mmpretrain(dict(type="mmpretrain.ResNet_CIFAR", depth=18))
    found = read({"state_dict": prefixed(original.state_dict(), "backbone.")})
    assert "stem for small images" in found.architecture.describe()
    assert_same_features(found, lambda x: original(x)[-1].mean(dim=(2, 3)), sizes=(32, 17))


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


def borders_of_tensorflow(images: Tensor, window: int, stride: int, fill: float = 0.0) -> Tensor:
    """Pad so that ``ceil(side / stride)`` windows fit, the smaller border first."""
    for axis in (3, 2):
        side = images.shape[axis]
        need = max((-(-side // stride) - 1) * stride + window - side, 0)
        before, after = need // 2, need - need // 2
        pad = [before, after] if axis == 3 else [0, 0, before, after]
        images = nn.functional.pad(images, pad, value=fill)
    return images


def test_borders_as_in_tensorflow() -> None:
    """ajtejankar/byol-convert, resnet.py, 05d160a73f80b62304d224f7a4e08de22c32d007.

    Every window is padded by hand, those of stride 1 too; the converted file has
    no ``num_batches_tracked`` and the stem is as wide as the first stage.
    """
    torch.manual_seed(0)
    architecture = ResNetArchitecture(
        (1, 2, 1, 1), "bottleneck", base_channels=16, stem_channels=16, padding="same"
    )
    original = randomise(architecture.build())

    def run(images: Tensor) -> Tensor:
        def conv(x: Tensor, layer: nn.Conv2d) -> Tensor:
            padded = borders_of_tensorflow(x, layer.kernel_size[0], layer.stride[0])
            return nn.functional.conv2d(padded, layer.weight, stride=layer.stride)

        x = original.bn1(conv(images, original.conv1)).relu()
        x = nn.functional.max_pool2d(borders_of_tensorflow(x, 3, 2), 3, 2)
        for stage in (original.layer1, original.layer2, original.layer3, original.layer4):
            for block in stage:
                y = block.bn1(conv(x, block.conv1)).relu()
                y = block.bn2(conv(y, block.conv2)).relu()
                y = block.bn3(conv(y, block.conv3))
                if block.downsample is not None:
                    x = block.downsample[1](conv(x, block.downsample[0]))
                x = (x + y).relu()
        return x.mean(dim=(2, 3))

    state = {k: v for k, v in original.state_dict().items() if "tracked" not in k}
    state |= {"fc.weight": torch.randn(5, 512), "fc.bias": torch.randn(5)}
    found = read(state, padding="same")
    assert found.architecture == architecture
    assert found.missing and all(name.endswith("num_batches_tracked") for name in found.missing)
    assert_same_features(found, run)
    plain = load_trunk(read(state), "some.pth")
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(plain(images), run(images), rtol=1e-2)


def test_resnet200_twice_as_wide() -> None:
    """Shapes of google-deepmind/deepmind-research, byol/utils/networks.py.

    At 500ffd895db36fdf0e0cbbc7a52163948590e255: blocks (3, 24, 36, 3), the stem
    of 64 times the multiplier, the groups of (256, 512, 1024, 2048) times it.
    """
    architecture = ResNetArchitecture((3, 24, 36, 3), "bottleneck", 128, 128, padding="same")
    with torch.device("meta"):
        state = architecture.build().state_dict()
    assert state["conv1.weight"].shape == (128, 3, 7, 7)
    assert [len(state[f"layer{k}.0.conv3.weight"]) for k in (1, 2, 3, 4)] == [512, 1024, 2048, 4096]
    found = read(state, padding="same")
    assert found.architecture == architecture
    assert found.architecture.describe().startswith("ResNet-200, 2 times as wide")


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
    with pytest.raises(UserError, match="padding 'valid' of PlainResNet"):
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
