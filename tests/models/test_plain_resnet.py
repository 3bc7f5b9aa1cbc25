"""The ResNet's names, start and batch norms against torchvision's."""

from __future__ import annotations

import pytest
import torch
import torchvision

from msn_mm.models.backbones.plain_resnet import PlainResNet
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (dict(layers=(2, 2, 2, 2), block="basic"), torchvision.models.resnet18),
        (dict(layers=(3, 4, 6, 3)), torchvision.models.resnet50),
        (dict(layers=(3, 4, 6, 3), groups=32, width_per_group=4), "resnext50_32x4d"),
    ],
)
def test_names_and_shapes_are_torchvision_s(settings, theirs) -> None:
    make = getattr(torchvision.models, theirs) if isinstance(theirs, str) else theirs
    with torch.device("meta"):
        ours, reference = PlainResNet(**settings), make()
    expected = {k: v.shape for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected
    norms = [m for m in ours.modules() if hasattr(m, "running_mean")]
    assert len(norms) == sum(k.endswith("running_mean") for k in expected)
    assert all(isinstance(m, SyncBatchNorm) for m in norms)


def test_it_starts_as_torchvision_s_does() -> None:
    settings = dict(layers=(2, 2, 2, 2), block="basic")
    torch.manual_seed(0)
    ours = PlainResNet(**settings)
    reference = torchvision.models.resnet18()
    for name, weight in ours.state_dict().items():
        if weight.ndim == 4:
            spread = reference.state_dict()[name].std()
            assert weight.std() == pytest.approx(spread.item(), rel=0.1), name
    idle = PlainResNet(**settings, zero_init_residual=True).eval()
    last = {
        n for n, m in idle.named_modules() if isinstance(m, SyncBatchNorm) and (m.weight == 0).all()
    }
    assert last == {f"layer{s}.{b}.bn2" for s in range(1, 5) for b in range(2)}
    x = torch.rand(1, 64, 8, 8)
    assert torch.equal(idle.layer1(x), x), "each block is its shortcut"


def test_in_eval_mode_and_on_one_process_it_is_torchvision_s() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet18()
    ours = PlainResNet(layers=(2, 2, 2, 2), block="basic")
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(state)
    reference.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 48, 48)
    for mode in (True, False):
        assert torch.allclose(ours.train(mode)(images), reference.train(mode)(images), atol=1e-5)
