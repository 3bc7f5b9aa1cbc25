from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder, ReadOut, build_encoder, encoder_of
from msn_mm.models.methods.msn import MSN
from msn_mm.models.readout import represent
from msn_mm.registry import MODELS

from .photos import AMP_TOLERANCE

MEAN, STD = [120.0, 115.0, 100.0], [60.0, 55.0, 50.0]
VIT = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
VIT |= dict(embed_dim=24, depth=3, num_heads=3)
MSN_CONFIG = dict(
    type="MSN",
    data_preprocessor=dict(type="MultiViewPreprocessor", mean=MEAN, std=STD),
    backbone=VIT,
    head=dict(type="MSNHead", hidden_dim=16, output_dim=8, num_prototypes=8),
    loss=dict(type="MSNLoss"),
)
SMALL_VIT = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
# Every way in which a registry spells a backbone: its config, and its own output for x.
SMALL_MIXER = dict(embed_dims=24, num_layers=1, tokens_mlp_dims=16, channels_mlp_dims=32)

FOREIGN: dict[str, tuple[dict[str, Any], Any]] = {
    "resnet": (
        dict(type="mmpretrain.ResNet", depth=18),
        lambda net, x: net(x)[-1].mean(dim=(2, 3)),
    ),
    "vit": (
        dict(type="mmpretrain.VisionTransformer", arch=SMALL_VIT, img_size=32, patch_size=8),
        lambda net, x: net(x)[0],
    ),
    "vit tokens": (
        dict(
            type="mmpretrain.VisionTransformer",
            arch=SMALL_VIT,
            img_size=32,
            patch_size=8,
            out_type="raw",
        ),
        lambda net, x: net(x)[0][:, 0],
    ),
    "timm vit": (
        dict(
            type="TIMMBackbone",
            model_name="vit_tiny_patch16_224",
            img_size=32,
            patch_size=8,
            depth=2,
        ),
        lambda net, x: net.timm_model.forward_features(x)[:, 0],
    ),
    "timm vit without cls": (
        dict(
            type="TIMMBackbone",
            model_name="vit_base_patch16_siglip_224",
            img_size=32,
            depth=1,
            embed_dim=24,
            num_heads=3,
        ),
        lambda net, x: net.timm_model.forward_features(x).mean(dim=1),
    ),
    "timm swin": (
        dict(
            type="TIMMBackbone",
            model_name="swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            depths=(1, 1),
            num_heads=(1, 2),
            embed_dim=8,
        ),
        lambda net, x: net.timm_model.forward_features(x).flatten(1, 2).mean(dim=1),
    ),
    "mixer": (
        dict(type="mmpretrain.MlpMixer", arch=SMALL_MIXER, img_size=32, patch_size=8),
        lambda net, x: net(x)[-1].mean(dim=2),
    ),
    "timm mixer": (
        dict(type="TIMMBackbone", model_name="mixer_s32_224", img_size=32),
        lambda net, x: net.timm_model.forward_features(x).mean(dim=1),
    ),
    "mobilenet": (dict(type="mmpretrain.MobileNetV2"), lambda net, x: net(x)[-1].mean(dim=(2, 3))),
    "pixels": (dict(type="RawPixels"), lambda net, x: x.flatten(1)),
}


def photos(n: int = 5, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (n, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def normalised(images: Tensor, mean: list[float] = MEAN, std: list[float] = STD) -> Tensor:
    statistics = [torch.tensor(values).view(-1, 1, 1) for values in (mean, std)]
    return (images.float() - statistics[0]) / statistics[1]


def encoder_in_bgr(encoder: FrozenEncoder, images: Tensor) -> Tensor:
    """What an encoder gives when its trunk sees normalised images with channels turned round."""
    x = normalised(images).flip(1)
    with torch.no_grad():
        return represent(encoder.trunk, x)


def msn(seed: int = 0) -> MSN:
    """MSN whose target differs from its online trunk."""
    torch.manual_seed(seed)
    model = MODELS.build(MSN_CONFIG)
    for parameter in model.target_backbone.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def blocks_of(model: nn.Module, x: Tensor) -> list[Tensor]:
    """CLS token behind each block, by timm's own modules."""
    vit, found = model.target_backbone.vit, []
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))
    for block in vit.blocks:
        x = block(x)
        found.append(x)
    return found


def test_msn_gives_the_target_s_cls_before_the_norm() -> None:
    model, images = msn(), photos()
    encoder = encoder_of(model)
    blocks, norm = blocks_of(model, normalised(images)), model.target_backbone.vit.norm
    got = encoder(images)
    assert got.dtype == torch.float32 and encoder.width == 24 == got.shape[1]
    torch.testing.assert_close(got, blocks[-1][:, 0], atol=2e-6, rtol=1e-5)
    with torch.no_grad():
        prepared = model.data_preprocessor({"inputs": images, "data_samples": {}})["inputs"]
        torch.testing.assert_close(model.extract_features(prepared), got)
        two = torch.cat([norm(b)[:, 0] for b in blocks[-2:]], dim=1)
    several = encoder_of(model, ReadOut(blocks=2, norm=True))
    assert several.width == 48
    torch.testing.assert_close(several(images), two, atol=2e-6, rtol=1e-5)


def test_a_mask_is_a_function_of_the_key() -> None:
    encoder, images = encoder_of(msn()), photos(9)
    assert encoder.can_mask
    keys = torch.arange(9) + 7
    masked = encoder(images, 0.5, keys)
    assert torch.equal(encoder(images[4:6], 0.5, keys[4:6]), masked[4:6])
    assert not torch.allclose(encoder(images, 0.5, keys + 1), masked)
    with pytest.raises(ValueError, match="without keys"):
        encoder(images, 0.5)


@pytest.mark.parametrize("name", FOREIGN)
def test_any_backbone_of_the_registry(name: str) -> None:
    config, expect = FOREIGN[name]
    cfg = Config(dict(model=config, data_preprocessor=dict(mean=MEAN, std=STD)))
    encoder, images = build_encoder(cfg, None), photos()
    got = encoder(images)
    with torch.no_grad():
        want = expect(encoder.trunk, normalised(images))
    assert got.shape == want.shape and encoder.width == got.shape[1]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    # one image and many: the same bits
    assert torch.equal(encoder(images[:1]), got[:1])
    assert torch.equal(encoder(photos(11))[:5], encoder(photos(11)[:5]))
    assert not encoder.can_mask
    for readout in (ReadOut(blocks=2), ReadOut(norm=True)):
        with pytest.raises(UserError, match=r"cannot give .*MaskedViT"):
            build_encoder(cfg, None, readout)
    with pytest.raises(UserError, match="cannot give masked images"):
        encoder(images, 0.5, torch.arange(5))


def self_supervised(kind: str) -> dict[str, Any]:
    """A method of mmpretrain on a tiny trunk."""
    trunk = dict(img_size=32, patch_size=8, arch=SMALL_VIT)
    if kind == "BYOL":
        neck = dict(
            type="NonLinearNeck", in_channels=512, hid_channels=8, out_channels=8, num_layers=2
        )
        loss = dict(type="CosineSimilarityLoss")
        head = dict(
            type="LatentPredictHead",
            loss=loss,
            predictor=dict(neck, in_channels=8, with_avg_pool=False),
        )
        return dict(
            type="mmpretrain.BYOL", backbone=dict(type="ResNet", depth=18), neck=neck, head=head
        )
    if kind == "MAE":
        neck = dict(
            type="MAEPretrainDecoder",
            patch_size=8,
            num_patches=16,
            embed_dim=24,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        )
        head = dict(type="MAEPretrainHead", patch_size=8, loss=dict(type="PixelReconstructionLoss"))
        head["loss"]["criterion"] = "L2"
        return dict(
            type="mmpretrain.MAE",
            backbone=dict(type="MAEViT", mask_ratio=0.75, **trunk),
            neck=neck,
            head=head,
        )
    return dict(
        type="ImageClassifier",
        backbone=dict(type="ResNet", depth=18),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=3, in_channels=512),
    )


@pytest.mark.parametrize("kind", ["BYOL", "MAE", "ImageClassifier"])
def test_a_method_of_mmpretrain_is_represented_by_its_backbone(kind: str, tmp_path: Path) -> None:
    cfg = Config(dict(model=self_supervised(kind)))
    cfg.model.data_preprocessor = dict(mean=MEAN, std=STD, to_rgb=True)
    encoder, images = build_encoder(cfg, None, seed=1), photos()
    with torch.no_grad():
        x = normalised(images)
        if kind == "MAE":  # whole images, although it masks while training
            want = encoder.trunk(x, mask=None)[-1]
            want = want[:, 0] if want.ndim == 3 else want
        else:
            want = encoder.trunk(x)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(encoder(images), want, atol=1e-5, rtol=1e-4)
    assert torch.equal(encoder(images), encoder(images))

    # a model that was trained on BGR gets BGR, its statistics in that order
    cfg.model.data_preprocessor = dict(mean=MEAN[::-1], std=STD[::-1], to_rgb=False)
    turned = build_encoder(cfg, None, seed=1)
    torch.testing.assert_close(turned(images), encoder_in_bgr(encoder, images))
    cfg.model.data_preprocessor = dict(mean=MEAN, std=STD, to_rgb=True)

    state = {f"backbone.{key}": value for key, value in encoder.trunk.state_dict().items()}
    torch.save({"state_dict": {**state, "head.other": torch.zeros(2)}}, tmp_path / "a.pth")
    other = build_encoder(cfg, tmp_path / "a.pth", seed=2)
    assert torch.equal(other(images), encoder(images))


def test_weights_of_the_whole_model_its_trunk_or_a_classifier(tmp_path: Path) -> None:
    model, images = msn(), photos()
    want = encoder_of(model)(images)
    target = model.target_backbone.state_dict()
    files = {
        "whole": {"state_dict": model.state_dict(), "meta": {"epoch": 3}},
        "trunk": {"state_dict": target},
        "prefixed": {"state_dict": {f"backbone.{k}": v for k, v in target.items()}},
        "bare": dict(target),
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        for config in (dict(MSN_CONFIG), dict(VIT)):
            cfg = Config(dict(model=config, data_preprocessor=dict(mean=MEAN, std=STD)))
            got = build_encoder(cfg, tmp_path / name)(images)
            torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)

    cfg = Config(dict(model=MSN_CONFIG))
    lacking = {k: v for k, v in model.state_dict().items() if "target_backbone.vit.norm" not in k}
    torch.save({"state_dict": lacking}, tmp_path / "lacking")
    with pytest.raises(UserError, match=r"lacks 2 weights such as vit\.norm"):
        build_encoder(cfg, tmp_path / "lacking")
    torch.save({"state_dict": {**target, "vit.extra": torch.zeros(1)}}, tmp_path / "more")
    with pytest.raises(UserError, match=r"the model lacks, such as vit\.extra"):
        build_encoder(cfg, tmp_path / "more")


def test_a_config_without_a_model_and_misspelt_types_are_told() -> None:
    with pytest.raises(UserError, match="the config has no model"):
        build_encoder(Config({}), None)
    with pytest.raises(UserError, match=r"registered as 'MaskedVit'.*'MaskedViT'"):
        build_encoder(Config(dict(model=dict(type="MaskedVit"))), None)
    with pytest.raises(UserError, match="9 blocks were asked for and the backbone has 3"):
        encoder_of(msn(), ReadOut(blocks=9))
    with pytest.raises(UserError, match="blocks is 0"):
        ReadOut(blocks=0)


def test_channels_must_fit() -> None:
    with pytest.raises(UserError, match=r"images have 1 channel\(s\) and the encoder takes 3"):
        encoder_of(msn())(photos(channels=1))
    grey = dict(VIT, in_chans=1)
    with pytest.raises(UserError, match=r"takes 1 channel\(s\) and .*mean has 3 values"):
        build_encoder(Config(dict(model=grey)), None)
    one = build_encoder(Config(dict(model=grey, data_preprocessor=dict(mean=[9], std=[3]))), None)
    assert one(photos(channels=1)).shape == (5, 24) and one.in_channels == 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (dict(mean=[1, 2, 3]), "data_preprocessor has mean and no std; give both"),
        (dict(std=[1, 2, 3]), "data_preprocessor has std and no mean; give both"),
        (dict(mean=[1, 2, 3], std=[1, 2]), r"takes 3 channel\(s\) and .*std has 2 values"),
    ],
)
def test_a_normalisation_is_given_whole(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        build_encoder(Config(dict(model=VIT, data_preprocessor=given)), None)


def test_imagenet_s_normalisation_where_nobody_gives_another() -> None:
    encoder = build_encoder(Config(dict(model=dict(type="RawPixels"))), None)
    want = normalised(photos(), [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    torch.testing.assert_close(encoder(photos()), want.flatten(1))


def test_random_weights_come_from_the_seed_alone() -> None:
    cfg = Config(dict(model=MSN_CONFIG))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build_encoder(cfg, None, seed=seed) for seed in (1, 1, 2))
    images = photos()
    assert torch.equal(one(images), same(images)) and not torch.equal(one(images), other(images))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_living_model_keeps_its_modes_and_shows_its_latest_weights() -> None:
    model, images = msn().train(), photos()
    model.target_backbone.vit.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    encoder = encoder_of(model)
    first, print_ = encoder(images), encoder.fingerprint()
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(UserError):
        encoder(photos(size=4))
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad for p in model.backbone.parameters())
    with torch.no_grad():
        model.target_backbone.vit.blocks[0].attn.qkv.weight.add_(0.01)
    assert not torch.equal(encoder(images), first) and encoder.fingerprint() != print_


def test_dropout_and_batch_statistics_are_off() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    encoder = encoder_of(net)
    assert torch.equal(encoder(photos()), encoder(photos()))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_fingerprint_tells_what_a_feature_depends_on() -> None:
    def of(model: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        cfg = Config(dict(model=model, **kwargs.pop("cfg", {})))
        return build_encoder(cfg, None, *args, **kwargs).fingerprint()

    base = of(VIT)
    assert base == of(dict(VIT)) and len(base) == 64
    statistics = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1]))
    others = [
        of(VIT, seed=1),
        of(dict(VIT, num_heads=4)),  # the same weights, another network
        of(VIT, ReadOut(norm=True)),
        of(VIT, ReadOut(blocks=2)),
        of(VIT, amp=True),
        of(VIT, cfg=statistics),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_bfloat16_is_near_float32() -> None:
    cfg, images = Config(dict(model=MSN_CONFIG)), photos(16)
    exact, rough = build_encoder(cfg, None)(images), build_encoder(cfg, None, amp=True)(images)
    assert rough.dtype == torch.float32 and not torch.equal(exact, rough)
    error = (exact - rough).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < AMP_TOLERANCE


def test_timm_s_own_model_needs_no_config() -> None:
    net = timm.create_model("resnet10t", num_classes=0).eval()
    with torch.no_grad():
        want = net(normalised(photos()))
    encoder = encoder_of(net, data_preprocessor=dict(mean=MEAN, std=STD))
    torch.testing.assert_close(encoder(photos()), want, atol=1e-5, rtol=1e-4)
