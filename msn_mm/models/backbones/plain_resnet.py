"""A residual network of any depth and width, named as torchvision names its own.

Legend: B images, C channels, D width of the representation, h, w places of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from timm.layers import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from msn_mm.errors import UserError
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.registry import MODELS

_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}
Stem = Literal["imagenet", "small", "small_padded"]
Padding = Literal["symmetric", "same"]


@MODELS.register_module()
class PlainResNet(nn.Module):
    """A ResNet without its classifier; the blocks are torchvision's, and so is their start.

    In training, batch norm spans the joint batch of all ranks.

    torchvision and timm fix the width of the stem and the depths; the SimCLR and
    BYOL networks (arXiv 2006.07733, appendix F) scale the stem as well and are
    200 layers deep. The state dict has torchvision's names.

    Args:
        layers: Blocks of each stage: (3, 4, 6, 3) is ResNet-50, (3, 24, 36, 3) ResNet-200.
        block: ``basic`` (two 3 x 3 convolutions) or ``bottleneck``.
        base_channels: Width of the first stage before expansion; each stage doubles it.
        stem_channels: Channels after the stem; default: ``base_channels``.
        groups: Groups of the 3 x 3 convolutions (ResNeXt).
        width_per_group: Width of a group in the first stage (wide ResNet, ResNeXt).
        in_channels: C.
        stem: ``imagenet`` (7 x 7, stride 2, then pooling), ``small`` (3 x 3,
            stride 1, no pooling, for images of 32 pixels) or ``small_padded``
            (the same with a border of two pixels, as solo-learn has it).
        padding: ``symmetric``, or ``same``: borders as TensorFlow and JAX put
            them, which differ where the stride is 2.
        zero_init_residual: Let every block start as its shortcut: the scale of its last
            batch norm is 0 (Goyal et al. 2017, arXiv 1706.02677, section 5.1).

    Raises:
        UserError: A setting that there is not.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        block: str = "bottleneck",
        base_channels: int = 64,
        stem_channels: int | None = None,
        groups: int = 1,
        width_per_group: int = 64,
        in_channels: int = 3,
        stem: Stem = "imagenet",
        padding: Padding = "symmetric",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        _check("block", block, _BLOCKS)
        _check("stem", stem, ("imagenet", "small", "small_padded"))
        _check("padding", padding, ("symmetric", "same"))
        kind = _BLOCKS[block]
        self.in_channels = in_channels
        width = stem_channels or base_channels
        self.conv1, self.maxpool = _build_stem(stem, in_channels, width)
        self.bn1 = SyncBatchNorm(width)
        self.relu = nn.ReLU(inplace=True)
        for number, count in enumerate(layers):
            planes = base_channels << number
            stage = _build_stage(
                kind, width, planes, count, 1 if number == 0 else 2, groups, width_per_group
            )
            self.add_module(f"layer{number + 1}", stage)
            width = planes * kind.expansion
        self.stages = len(layers)
        self.embed_dim = width
        if padding == "same":
            _pad_as_tensorflow(self)
        _initialise(self, zero_init_residual)

    def forward_features(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, D, h, w)``, the last feature map."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(self.stages):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)``, normalised -> ``(B, D)``, the mean over all places."""
        return self.forward_features(images).mean(dim=(2, 3))


def _build_stem(stem: Stem, channels: int, width: int) -> tuple[nn.Conv2d, nn.Module]:
    if stem == "imagenet":
        conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        return conv, nn.MaxPool2d(3, stride=2, padding=1)
    border = 2 if stem == "small_padded" else 1
    return nn.Conv2d(channels, width, 3, padding=border, bias=False), nn.Identity()


def _build_stage(
    kind: type[BasicBlock] | type[Bottleneck],
    width: int,
    planes: int,
    count: int,
    stride: int,
    groups: int,
    width_per_group: int,
) -> nn.Sequential:
    out = planes * kind.expansion
    shortcut = None
    if stride != 1 or width != out:
        shortcut = nn.Sequential(
            nn.Conv2d(width, out, 1, stride=stride, bias=False), SyncBatchNorm(out)
        )
    shape = dict(groups=groups, base_width=width_per_group, norm_layer=SyncBatchNorm)
    first = kind(width, planes, stride, shortcut, **shape)
    others = [kind(out, planes, **shape) for _ in range(count - 1)]
    return nn.Sequential(first, *others)


def _pad_as_tensorflow(model: nn.Module) -> None:
    """Give every strided window borders of which the smaller comes first."""
    for name, module in list(model.named_modules()):
        new: nn.Module
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            new = Conv2dSame(
                module.in_channels,
                module.out_channels,
                module.kernel_size[0],
                stride=module.stride[0],
                groups=module.groups,
                bias=False,
            ).to(module.weight.device)
            new.weight = module.weight
        elif isinstance(module, nn.MaxPool2d):
            new = MaxPool2dSame(module.kernel_size, stride=module.stride)
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)


def _initialise(model: nn.Module, zero_init_residual: bool) -> None:
    """Draw weights as He et al. 2015 (arXiv 1502.01852) do, by the fan out, as torchvision does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_init_residual and isinstance(module, BasicBlock | Bottleneck):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)


def _check(name: str, value: str, known: Sequence[str] | dict) -> None:
    if value not in known:
        raise UserError(f"{name} '{value}' of PlainResNet; it must be one of {', '.join(known)}")
