"""Small ResNets with random weights, and what a converted one is checked by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk

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
