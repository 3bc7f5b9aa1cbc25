"""Published ViT checkpoints, converted, against a ViT that reads the published names itself.

The names come from the files that each format cites in ``verified``.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError

from . import reference
from .reference import antialiased, by_dino, by_size, random_vit

HEADS = 3  # of every published ViT of width 192


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(9))


def read(content: dict[str, Any], name: str = "auto", **arch: Any) -> Converted:
    return convert(RawCheckpoint("weights.pth", content), name, arch)


def assert_same(got: Tensor, expected: Tensor) -> None:
    difference = (got - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5, f"off by {difference:.1e} relative"


def assert_features(converted: Converted, state: dict[str, Tensor], positions, **how) -> nn.Module:
    """At the learned size, at smaller and larger ones and at an oblong one."""
    trunk = load_trunk(converted, "weights.pth")
    heads = how.pop("heads", HEADS)
    side = converted.architecture.image_size
    for height, width in [(side, side), (24, 24), (56, 56), (24, 40)]:
        batch = images(height, width)
        assert_same(trunk(batch), reference.cls(state, batch, heads, positions, **how))
    return trunk


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def dino_head(width: int = 192) -> dict[str, Tensor]:
    shapes = {"mlp.0.weight": (64, width), "mlp.0.bias": (64,), "mlp.4.weight": (16, 64)}
    shapes |= {"last_layer.weight_g": (8, 1), "last_layer.weight_v": (8, 16)}
    return {f"head.{key}": torch.randn(shape) for key, shape in shapes.items()}


# facebookresearch/dino vision_transformer.py, main_dino.py @ 04c0ad95, hubconf.py @ 144f7056
def test_dino_backbone_alone():
    state = random_vit()
    converted = read(state)
    assert (converted.format, converted.ignored, converted.used) == ("dino", [], len(state))
    assert (converted.architecture.depth, converted.architecture.patch) == (2, 8)
    assert_features(converted, state, by_dino)


def test_dino_resampling_is_not_that_of_msn():
    state, batch = random_vit(), images(24, 24)
    other = read(state, resampling="scale")
    exact = reference.cls(state, batch, HEADS, by_dino)
    assert (load_trunk(other, "x")(batch) - exact).abs().max() > 1e-3


def test_dino_teacher_and_student():
    teacher, student = random_vit(seed=1), random_vit(seed=2)
    content = {
        "student": below("module.", below("backbone.", student) | dino_head()),
        "teacher": below("backbone.", teacher) | dino_head(),
        "optimizer": {"state": {}},
        "epoch": 800,
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    converted = read(content)
    assert converted.format == "dino"
    assert_features(converted, teacher, by_dino)
    assert {key.split(".")[0] for key in converted.ignored} == {"teacher", "student"}
    assert "teacher.head.mlp.0.weight" in converted.ignored
    assert_features(read(content, network="student"), student, by_dino)
    with pytest.raises(UserError, match="network is 'ema'; the checkpoint has teacher, student"):
        read(content, network="ema")


# bytedance/ibot models/vision_transformer.py, models/head.py @ c24f870d, main_ibot.py @ 564f363d
@pytest.mark.parametrize("scaled", [False, True])
def test_ibot_teacher_and_student(scaled):
    names = ("gamma_1", "gamma_2") if scaled else None
    teacher, student = (random_vit(layer_scale=names, seed=seed) for seed in (1, 2))
    head = dino_head() | {"head.last_layer2.weight_g": torch.ones(8, 1)}
    masked = {"masked_embed": torch.randn(1, 192)}
    content = {
        "student": below("module.", below("backbone.", student | masked) | head),
        "teacher": below("backbone.", teacher) | head,
        "ibot_loss": {"center": torch.zeros(1, 8)},
    }
    assert read(content).format == "ibot"
    assert_features(read(content), teacher, by_dino, layer_scale=names)
    assert_features(read(content, network="student"), student, by_dino, layer_scale=names)
    # A student's backbone alone keeps its mask embedding.
    alone = read(student | masked)
    assert (alone.format, alone.ignored) == ("ibot", ["masked_embed"])
    assert_features(alone, student, by_dino, layer_scale=names)


# facebookresearch/dinov2 models/vision_transformer.py @ 112792f1, hub/backbones.py @ a44758b4
def dinov2(registers: int = 0, gated: bool = False) -> dict[str, Tensor]:
    state = random_vit(patch=14, size=56, layer_scale=("ls1.gamma", "ls2.gamma"))
    state["mask_token"] = torch.randn(1, 192)
    if registers:
        state["register_tokens"] = torch.randn(1, registers, 192)
    if gated:
        for block in range(2):
            for kind in ("weight", "bias"):
                state[f"blocks.{block}.mlp.w12.{kind}"] = state.pop(
                    f"blocks.{block}.mlp.fc1.{kind}"
                )
            weight = state.pop(f"blocks.{block}.mlp.fc2.weight")
            state[f"blocks.{block}.mlp.w3.weight"] = weight[:, : 2 * 192].contiguous()
            state[f"blocks.{block}.mlp.w3.bias"] = state.pop(f"blocks.{block}.mlp.fc2.bias")
    return state


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_backbone(registers, gated):
    state = dinov2(registers, gated)
    converted = read(state)
    assert (converted.format, converted.ignored) == ("dinov2", ["mask_token"])
    assert (converted.architecture.image_size, converted.architecture.patch) == (56, 14)
    assert ("4 registers" in converted.architecture.describe()) == bool(registers)
    trunk = load_trunk(converted, "weights.pth")
    for size in [(56, 56), (42, 42), (70, 70), (42, 70)]:
        batch = images(*size)
        how = dict(
            heads=HEADS,
            positions=antialiased if registers else by_dino,
            layer_scale=("ls1.gamma", "ls2.gamma"),
            registers="register_tokens" if registers else None,
            gated=gated,
        )
        x = reference.norm(state, "norm", reference.tokens(state, batch, **how))
        assert_same(trunk(batch), x[:, 0])
        assert_same(trunk.forward_intermediates(batch)[0][1], x[:, 1 + registers :])


def test_dinov2_training_checkpoint_in_chunks():
    state = dinov2()
    chunks = {"blocks.0.": "blocks.0.0.", "blocks.1.": "blocks.1.1."}
    chunked = {
        next(
            (new + key.removeprefix(old) for old, new in chunks.items() if key.startswith(old)), key
        ): v
        for key, v in state.items()
    }
    teacher = below("backbone.", chunked) | {"dino_head.mlp.0.weight": torch.zeros(8, 192)}
    converted = read({"teacher": teacher})
    assert converted.format == "dinov2"
    assert converted.ignored == ["mask_token", "teacher.dino_head.mlp.0.weight"]
    whole = read(state).trunk
    assert converted.trunk.keys() == whole.keys()
    assert all(torch.equal(converted.trunk[key], whole[key]) for key in whole)


# facebookresearch/mae models_mae.py @ 6a2ba402, models_vit.py, util/pos_embed.py @ be47fef7
def test_mae_pretrained_with_and_without_decoder():
    state = random_vit()
    decoder = below("decoder_", random_vit(64, 1)) | {
        "mask_token": torch.zeros(1, 1, 64),
        "decoder_embed.weight": torch.zeros(64, 192),
        "decoder_embed.bias": torch.zeros(64),
        "decoder_pred.weight": torch.zeros(192, 64),
    }
    for content in ({"model": state | decoder, "epoch": 800}, {"model": state}, state | decoder):
        converted = read(content)
        assert converted.format == "mae"
        assert not converted.classifier
        assert_features(converted, state, by_size)
    assert set(read({"model": state | decoder}).ignored) == set(decoder)


def test_mae_fine_tuned_with_average_pooling_keeps_its_classifier():
    state = random_vit()
    state["fc_norm.weight"], state["fc_norm.bias"] = (
        state.pop("norm.weight"),
        state.pop("norm.bias"),
    )
    state |= {"head.weight": torch.randn(5, 192), "head.bias": torch.randn(5)}
    converted = read({"model": state})
    assert (converted.format, converted.pooling, converted.ignored) == ("mae", "mean", [])
    trunk = load_trunk(converted, "weights.pth")
    for size in ((32, 32), (48, 48)):
        batch = images(*size)
        x = reference.tokens(state, batch, HEADS, by_size)
        pooled = reference.norm(state, "fc_norm", x[:, 1:].mean(1))
        expected = pooled @ state["head.weight"].T + state["head.bias"]
        head = converted.classifier
        patches = trunk.forward_intermediates(batch)[0][1]
        normed = reference.norm(head, "norm", patches.mean(1))
        assert_same(normed @ head["weight"].T + head["bias"], expected)


# facebookresearch/mae main_linprobe.py @ 6a2ba402: a batch norm without parameters, then the layer
def test_mae_linear_probe_keeps_its_classifier():
    state = random_vit()
    probe = nn.Sequential(nn.BatchNorm1d(192, affine=False, eps=1e-6), nn.Linear(192, 5)).eval()
    probe[0].running_mean.normal_()
    probe[0].running_var.uniform_(0.1, 2)
    content = {"model": state | below("head.", probe.state_dict())}
    converted = read(content)
    assert (converted.format, converted.pooling, converted.ignored) == ("mae", "cls", [])
    batch = images(48, 48)
    rows = load_trunk(converted, "weights.pth")(batch)
    head = converted.classifier
    with torch.no_grad():
        assert_same(rows @ head["weight"].T + head["bias"], probe(rows))
    content["model"]["head.0.running_mean"] = torch.zeros(7)
    with pytest.raises(UserError, match=r"linear probe of .* do not fit"):
        read(content)


def test_settings_that_weights_do_not_tell():
    state = random_vit()
    model = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=192,
        depth=2,
        num_heads=HEADS,
        num_classes=0,
        act_layer="quick_gelu",
        norm_layer=partial(nn.LayerNorm, eps=1e-3),
    )
    model.load_state_dict(state)
    arch = {"epsilon": 1e-3, "activation": "quick_gelu"}
    trunk = load_trunk(read(state, **arch), "weights.pth")
    batch = images(32, 32)
    with torch.no_grad():
        assert_same(trunk(batch), model.eval()(batch))
    for wrong, words in (
        ({"epsilon": "small"}, "epsilon is 'small'"),
        ({"activation": "softmax"}, "activation is 'softmax'; there are gelu, gelu_tanh"),
        ({"resampling": "linear"}, "resampling is 'linear'; there are scale, dino, timm"),
        ({"heads": "three"}, "heads is 'three'; give a positive whole number"),
        ({"heads": 0}, "heads is 0; give a positive whole number"),
        ({"image_size": 32.5}, "image_size is 32.5; give a positive whole number"),
        ({"network": "online"}, "network is 'online'; the checkpoint has"),
    ):
        with pytest.raises(UserError, match=words):
            read(state, **wrong)


# facebookresearch/moco-v3 vits.py @ 1c6b717e, moco/builder.py @ 0c5d00a3, main_lincls.py @ 2877a788
def test_mocov3_small_has_twelve_heads():
    base, momentum = random_vit(384, seed=1), random_vit(384, seed=2)
    mlp = {"head.0.weight": torch.randn(16, 384), "head.1.running_mean": torch.zeros(16)}
    state = below("base_encoder.", base | mlp) | below("momentum_encoder.", momentum | mlp)
    state |= {"predictor.0.weight": torch.zeros(16, 16)}
    content = {"arch": "vit_small", "state_dict": below("module.", state), "epoch": 300}
    converted = read(content)
    assert converted.format == "mocov3_vit"
    assert converted.architecture.heads == 12
    assert not converted.classifier
    assert_features(converted, base, by_size, heads=12)
    assert_features(read(content, network="momentum_encoder"), momentum, by_size, heads=12)
    assert {"head.0.weight", "predictor.0.weight"} < set(converted.ignored)


def test_mocov3_linear_classifier():
    base = random_vit(384)
    head = {"head.weight": torch.randn(5, 384), "head.bias": torch.randn(5)}
    content = {"arch": "vit_small", "state_dict": below("module.", base | head)}
    converted = read(content)
    assert converted.architecture.heads == 12
    assert torch.equal(converted.classifier["weight"], head["head.weight"])


# The installed timm is the original.
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_timm_with_its_head(wrapper):
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, num_classes=5, dynamic_img_size=True
    ).eval()
    _randomise(model)
    state = dict(model.state_dict())
    converted = read({wrapper: state} if wrapper else state)
    assert (converted.format, converted.ignored) == ("timm", [])
    trunk = load_trunk(converted, "weights.pth")
    for size in [(64, 64), (48, 48), (96, 96), (48, 80)]:
        batch = images(*size)
        assert_same(
            trunk(batch), model.forward_head(model.forward_features(batch), pre_logits=True)
        )
        logits = trunk(batch) @ converted.classifier["weight"].T + converted.classifier["bias"]
        assert_same(logits, model(batch))


@pytest.mark.parametrize(
    "options",
    [
        dict(init_values=0.1, reg_tokens=4, no_embed_class=True),
        dict(reg_tokens=1, qkv_bias=False, mlp_ratio=3.0),
        dict(pre_norm=True, qk_norm=True),
        dict(global_pool="avg"),
    ],
)
def test_timm_variants_are_told_by_their_weights(options):
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=64,
        depth=2,
        num_classes=5,
        dynamic_img_size=True,
        **options,
    ).eval()
    _randomise(model)
    converted = read(dict(model.state_dict()))
    assert converted.ignored == []
    trunk = load_trunk(converted, "weights.pth")
    for size in [(64, 64), (96, 96)]:
        batch = images(*size)
        features = model.forward_features(batch)
        cls, patches = trunk.forward_intermediates(batch)[0]
        assert_same(cls, features[:, 0])
        assert_same(patches, features[:, model.num_prefix_tokens :])


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch32_clip_quickgelu_224",  # another activation, and a norm before the blocks
        "vit_betwixt_patch32_clip_224",  # a width that does not tell the heads
    ],
)
def test_timm_config_names_the_model_and_its_normalisation(name):
    model = timm.create_model(name, depth=1, num_classes=5).eval()
    _randomise(model)
    config = {
        "architecture": name,
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    }
    raw = RawCheckpoint("directory", dict(model.state_dict()), config)
    converted = convert(raw)
    assert (converted.mean, converted.std) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    batch = images(224, 224)
    assert_same(load_trunk(converted, "directory")(batch), model.forward_features(batch)[:, 0])


def test_mistakes_get_one_line_each():
    state = random_vit()
    with pytest.raises(UserError, match="attention heads of a ViT of width 64 cannot be told"):
        read(random_vit(64))
    assert read(random_vit(64), heads=4).architecture.heads == 4
    with pytest.raises(UserError, match=r"arch has no 'head'; .* Did you mean 'heads'\?"):
        read(state, head=4)
    with pytest.raises(UserError, match="does not divide into 5 attention heads"):
        read(state, heads=5)
    with pytest.raises(UserError, match=r"the 17 positions of .* form no square grid"):
        read(state | {"pos_embed": torch.zeros(1, 18, 192)})
    lacking = {key: value for key, value in state.items() if key != "blocks.1.norm2.bias"}
    with pytest.raises(UserError, match=r"lacks 1 weights such as vit\.blocks\.1\.norm2\.bias"):
        load_trunk(read(lacking), "weights.pth")
    lacking = {key: value for key, value in state.items() if not key.startswith("norm.")}
    with pytest.raises(UserError, match=r"has no 'norm\.weight'; it is no whole ViT"):
        read(lacking)
    with pytest.raises(UserError, match="second class token"):
        read(state | {"head.weight": torch.zeros(5, 192), "dist_token": torch.zeros(1, 1, 192)})
    with pytest.raises(UserError, match="no checkpoint of an image encoder"):
        read({"model.embed_tokens.weight": torch.zeros(9, 8), "lm_head.weight": torch.zeros(9, 8)})


def _randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize(
    "options",
    [
        dict(act_layer="gelu_tanh"),
        dict(norm_layer="rmsnorm", qkv_bias=False),
        dict(norm_layer="layernorm", final_norm=True),
        dict(no_embed_class=True, reg_tokens=1),
        dict(init_values=None, mlp_ratio=4.0, drop_rate=0.5, proj_drop_rate=0.5),
        dict(scale_attn_norm=True, scale_mlp_norm=True),
    ],
)
def test_a_config_of_timm_tells_what_weights_do_not(options, tmp_path):
    name = "vit_tiny_patch16_224"
    arguments = dict(img_size=64, depth=2, **options)
    model = timm.create_model(name, num_classes=0, **arguments).eval()
    _randomise(model)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": name, "num_classes": 0, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    batch = images(64, 64)
    trunk = load_trunk(convert(read_source(tmp_path)), "x")
    assert_same(trunk(batch), model.forward_features(batch)[:, 0])
