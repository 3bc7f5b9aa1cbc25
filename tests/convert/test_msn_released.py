from __future__ import annotations

from pathlib import Path

import pytest
import torch
from convert.released import (
    HEAD_SHAPES,
    OUTPUT,
    PROTOTYPES,
    TRUNK_KEYS,
    adam_by_name,
    network,
    released,
)
from convert.vits import ARCH, SIZE, by_scale_factor, images, random_vit, reference_cls, relative

from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_features_are_the_released_ones(prefix: str, tmp_path: Path) -> None:
    target = random_vit()
    torch.save(released(target, prefix), tmp_path / "vits16_800ep.pth.tar")
    found = convert(read_source(tmp_path / "vits16_800ep.pth.tar"), arch=ARCH)
    assert found.format == "msn"
    trunk = load_trunk(found, "x")
    # 56 pixels: 7 x 7 patches of a learned 6 x 6; 32: 4 x 4; 35: the rest is cut off
    for size in (SIZE, 56, 32, 35):
        x = images(size)
        wanted = reference_cls(target, x, by_scale_factor)
        assert relative(trunk(x), wanted) < 1e-5


def test_head_and_prototypes_are_kept_and_all_is_told() -> None:
    content = released(random_vit())
    found = convert(RawCheckpoint("x", content), arch=ARCH)
    target = content["target_encoder"]
    places = {
        "projector.0.weight": "fc.fc1.weight",
        "projector.1.running_var": "fc.bn1.running_var",
        "projector.3.bias": "fc.fc2.bias",
        "projector.4.num_batches_tracked": "fc.bn2.num_batches_tracked",
        "projector.6.weight": "fc.fc3.weight",
    }
    for ours, theirs in places.items():
        assert torch.equal(found.extras[ours], target[f"module.{theirs}"])
    assert found.extras["prototypes"].shape == (PROTOTYPES, OUTPUT)
    head = {k for k in found.extras if not k.startswith(("online.", "optimizer."))}
    assert len(head) == len(HEAD_SHAPES) + 1
    assert found.used == 2 * (len(TRUNK_KEYS) + len(HEAD_SHAPES)) + 1
    assert (found.ignored, found.missing) == ([], [])


def test_online_network_and_optimizer_are_kept_by_name() -> None:
    content = released(random_vit())
    content["opt"], states = adam_by_name(random_vit())
    found = convert(RawCheckpoint("x", content), arch=ARCH)
    online = content["encoder"]
    assert torch.equal(found.extras["online.vit.pos_embed"], online["module.pos_embed"])
    name = "module.fc.bn2.running_var"
    assert torch.equal(found.extras["online.projector.4.running_var"], online[name])
    kept = {k: v for k, v in found.extras.items() if k.startswith("optimizer.")}
    assert len(kept) == 3 * len(states)
    for theirs, ours in {
        "blocks.1.attn.qkv.weight": "vit.blocks.1.attn.qkv.weight",
        "cls_token": "vit.cls_token",
        "norm.bias": "vit.norm.bias",
        "fc.bn1.weight": "projector.1.weight",
        "fc.fc3.weight": "projector.6.weight",
        "prototypes": "prototypes",
    }.items():
        for kind, value in states[theirs].items():
            assert torch.equal(kept[f"optimizer.{kind}.{ours}"], value)
    assert [group["weight_decay"] for group in found.settings["optimizer"]] == [0.0, 0.1, 0.2]
    assert found.settings["epoch"] == 800
    strange = {
        **content,
        "opt": torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).state_dict(),
    }
    assert convert(RawCheckpoint("x", strange), arch=ARCH).ignored == ["opt"]


def test_either_network_can_be_the_trunk() -> None:
    content = released(random_vit())
    found = convert(RawCheckpoint("x", content), arch={**ARCH, "network": "online"})
    assert torch.equal(found.trunk["vit.pos_embed"], content["encoder"]["module.pos_embed"])
    weight = content["encoder"]["module.fc.fc1.weight"]
    assert torch.equal(found.extras["projector.0.weight"], weight)
    assert found.ignored == [f"target_encoder.{k}" for k in content["target_encoder"]]
    with pytest.raises(UserError, match="network is 'student'; the checkpoint has target, online"):
        convert(RawCheckpoint("x", content), arch={"network": "student"})


def test_files_with_less_are_read_and_what_lacks_is_named() -> None:
    model = random_vit()
    bare = convert(RawCheckpoint("x", {"target_encoder": model.state_dict()}), arch=ARCH)
    assert bare.missing == ["prototypes", "target_encoder.fc"]
    online = convert(RawCheckpoint("x", {"encoder": network(model, 1)}), arch=ARCH)
    assert online.missing == ["target_encoder", "prototypes"]
    assert torch.equal(online.trunk["vit.pos_embed"], model.pos_embed)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "patch", "grid"),
    [
        (384, 12, 6, 16, 14),
        (768, 12, 12, 16, 14),
        (1024, 24, 16, 16, 14),
        (768, 12, 12, 4, 56),
        (1024, 24, 16, 7, 32),
    ],
)
def test_published_sizes_are_inferred(
    width: int, depth: int, heads: int, patch: int, grid: int
) -> None:
    """S/16, B/16, L/16, B/4 and L/7, on the meta device."""
    with torch.device("meta"):
        model = random_vit_of(width, depth, heads, patch, grid * patch)
    architecture = convert(RawCheckpoint("x", {"target_encoder": model.state_dict()})).architecture
    assert architecture.describe() == (
        f"ViT of width {width}, depth {depth}, {heads} heads, patch {patch}, 224 x 224 pixels, "
        "3 channels"
    )


def random_vit_of(width: int, depth: int, heads: int, patch: int, size: int) -> torch.nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        num_classes=0,
    )


def test_mistakes_are_named() -> None:
    state = network(random_vit(), 1)
    with pytest.raises(UserError, match="width 24 cannot be told"):
        convert(RawCheckpoint("x", {"target_encoder": state}))
    torn = {k: v for k, v in state.items() if not k.startswith("module.norm.")}
    with pytest.raises(UserError, match=r"no 'norm\.weight'"):
        convert(RawCheckpoint("x", {"target_encoder": torn}), arch=ARCH)
    lacking = {k: v for k, v in state.items() if k != "module.blocks.1.mlp.fc2.bias"}
    with pytest.raises(UserError, match=r"lacks 1 weights such as vit\.blocks\.1\.mlp\.fc2\.bias"):
        load_trunk(convert(RawCheckpoint("x", {"target_encoder": lacking}), arch=ARCH), "x")
    with pytest.raises(UserError, match="image_size=96 and the weights have positions of 6 x 6"):
        convert(RawCheckpoint("x", {"target_encoder": state}), arch={**ARCH, "image_size": 96})
    with pytest.raises(UserError, match="arch has no 'head'"):
        convert(RawCheckpoint("x", {"target_encoder": state}), arch={"head": 3})
