"""ResNets whose weights come from TensorFlow or JAX: other borders, other widths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msn_mm.convert.format import load_trunk
from msn_mm.convert.resnet import ResNetArchitecture

from .resnets import assert_same_features, randomise, read


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
