from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from convert.vits import images, randomise
from helpers import tiny_digits
from mmengine.config import Config

import msn_mm
from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.formats.own import model_config
from msn_mm.convert.source import MSN_HEAD, read_source
from msn_mm.convert.writer import write
from msn_mm.engine.launch import load_config
from msn_mm.engine.optim.decay_groups import decay_groups
from msn_mm.engine.run_parts import use_compile
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.registry import MODELS


def test_a_training_checkpoint_gives_its_target_trunk(tmp_path: Path) -> None:
    cfg = tiny_digits()
    model = MODELS.build(cfg.model).eval()
    randomise(model)
    content = {"state_dict": model.state_dict(), "meta": {"cfg": cfg.pretty_text}}
    torch.save(content, tmp_path / "epoch_3.pth")
    found = convert(read_source(tmp_path / "epoch_3.pth"))
    assert found.format == "msn_mm"
    trunk = load_trunk(found, "x")
    size = model.backbone.vit.patch_embed.img_size[0]
    for side in (size, 2 * size):
        x = images(side, channels=model.backbone.in_chans)
        assert torch.equal(trunk(x), model.target_backbone(x))
        assert not torch.equal(trunk(x), model.backbone(x))
    assert torch.equal(found.extras["prototypes"], model.head.prototypes)
    projector = model.target_head.projector.state_dict()
    assert {k for k in found.extras if k.startswith("projector.")} == {
        f"projector.{k}" for k in projector
    }
    online = model.backbone.state_dict()
    assert all(torch.equal(found.extras[f"online.{k}"], v) for k, v in online.items())
    norm = model.head.projector.state_dict()["4.running_mean"]
    assert torch.equal(found.extras["online.projector.4.running_mean"], norm)
    assert torch.equal(found.extras["projector.4.running_mean"], projector["4.running_mean"])
    assert found.used + len(found.ignored) == len(model.state_dict())
    mean = [float(value) / 255 for value in cfg.model.data_preprocessor.mean]
    assert list(found.mean) == mean


def test_a_bare_trunk_is_known() -> None:
    cfg = tiny_digits()
    trunk = MODELS.build(cfg.model.backbone).eval()
    heads = {"heads": cfg.model.backbone.num_heads}
    for prefix in ("", "backbone."):
        state = {prefix + k: v for k, v in trunk.state_dict().items()}
        found = convert(RawCheckpoint("x", state), arch=heads)
        assert all(torch.equal(found.trunk[k], v) for k, v in trunk.state_dict().items())


def test_a_config_is_read_and_never_run() -> None:
    text = "a = 1\nmodel = dict(type='MSN', sizes=[1, (2, 3)], inner=dict(x={'y': None}))\n"
    assert model_config(text) == {"type": "MSN", "sizes": [1, [2, 3]], "inner": {"x": {"y": None}}}
    assert model_config("model = dict(type=__import__('os').getcwd())") == {}
    assert model_config("model = (") == {}
    assert model_config("other = dict()") == {}


def test_optimizer_and_online_network_go_out_and_come_back(tmp_path: Path) -> None:
    cfg = tiny_digits()
    model = MODELS.build(cfg.model)
    randomise(model)
    optimizer = torch.optim.AdamW(decay_groups(model))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape)
    optimizer.step()
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "meta": {"cfg": cfg.pretty_text}}, tmp_path / "epoch_3.pth")
    found = convert(read_source(tmp_path / "epoch_3.pth"))
    names = {
        "optimizer.exp_avg.vit.blocks.1.mlp.fc1.weight": model.backbone.vit.blocks[
            1
        ].mlp.fc1.weight,
        "optimizer.exp_avg.projector.6.bias": model.head.projector[6].bias,
        "optimizer.exp_avg.prototypes": model.head.prototypes,
    }
    for name, parameter in names.items():
        assert torch.equal(found.extras[name], optimizer.state[parameter]["exp_avg"])
    groups = optimizer.state_dict()["param_groups"]
    assert len(found.settings["optimizer"]) == len(groups)
    for told, group in zip(found.settings["optimizer"], groups, strict=True):
        assert (told["lr"], told["weight_decay"]) == (group["lr"], group["weight_decay"])
    for to, file in (("msn_mm", "a.safetensors"), ("official", "a.pth.tar"), ("hf", "hf")):
        again = convert(read_source(write(found, tmp_path / file, to).path), arch={"heads": 3})
        assert found.extras.keys() == again.extras.keys()
        assert all(torch.equal(value, again.extras[k]) for k, value in found.extras.items())
        assert to == "official" or again.settings == found.settings
    groups = torch.load(tmp_path / "a.pth.tar", weights_only=True)["opt"]["param_groups"]
    assert [group.get("WD_exclude") for group in groups] == [None, True, True]
    assert [group.get("LARS_exclude") for group in groups] == [None, None, True]
    online = convert(read_source(tmp_path / "epoch_3.pth"), arch={"network": "online"})
    assert torch.equal(online.trunk["vit.pos_embed"], model.backbone.vit.pos_embed)
    assert not any(name.startswith(("online.", "optimizer.")) for name in online.extras)


def test_a_residual_network_that_represents_is_the_targets() -> None:
    backbone = dict(
        type="PlainResNet",
        layers=(1, 1, 1, 1),
        block="basic",
        base_channels=8,
        stem_channels=8,
        padding="same",
    )
    online, target = (MODELS.build(dict(backbone)) for _ in range(2))
    randomise(online, 1)
    randomise(target, 2)
    state = {f"backbone.{k}": v for k, v in online.state_dict().items()}
    state |= {f"target_backbone.{k}": v for k, v in target.state_dict().items()}
    state["head.prototypes"] = torch.ones(4, 4)
    model = dict(type="MSN", backbone=backbone, data_preprocessor=dict(mean=[25.5] * 3))
    content = {"state_dict": state, "meta": {"cfg": Config(dict(model=model)).pretty_text}}
    found = convert(RawCheckpoint("x", content))
    assert (found.format, found.architecture.padding) == ("msn_mm", "same")
    assert found.mean == (0.1, 0.1, 0.1) and not found.ignored
    x = images(32)
    assert torch.equal(load_trunk(found, "x")(x), target.eval()(x))
    assert torch.equal(found.extras["online.conv1.weight"], online.conv1.weight)
    other = convert(RawCheckpoint("x", content), arch={"network": "online"})
    assert torch.equal(load_trunk(other, "x")(x), online.eval()(x))


@pytest.mark.parametrize(
    ("name", "stem", "padding"),
    [
        ("byol_rn50", "imagenet", "same"),
        ("byol_rn50", "small_padded", "symmetric"),
        ("supervised_rn50", "imagenet", "same"),
    ],
)
def test_a_trained_residual_network_without_a_target_is_as_its_config_says(
    tmp_path: Path, name: str, stem: str, padding: str
) -> None:
    options = {"layers": (1, 1), "base_channels": 8, "stem_channels": 8, "in_channels": 1}
    options |= {"stem": stem, "padding": padding}
    cfg = load_config(name, {f"model.backbone.{k}": v for k, v in options.items()})
    cfg.merge_from_dict({"model.data_preprocessor": dict(mean=[51.0], std=[25.5])})
    model = MODELS.build(cfg.model).eval()
    randomise(model)
    path = tmp_path / "epoch_3.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {"cfg": cfg.pretty_text}}, path)
    found = convert(read_source(path))
    assert found.format == "msn_mm"
    assert (found.mean, found.std) == ((0.2,), (0.1,))
    x = images(32, channels=1)
    with torch.no_grad():
        assert torch.equal(msn_mm.load_backbone(path, verbose=False)(x), model.backbone(x))
    if name.startswith("supervised"):
        assert torch.equal(found.classifier["weight"], model.head.fc.weight)


# A value of each argument of MaskedViT that a training's config may have beside its default.
_OTHERS = dict(
    name="vit_tiny_patch16_224",
    img_size=[32, 32],
    patch_size=16,
    in_chans=1,
    drop_path_rate=0.2,
    checkpointing=True,
    compile=True,
    resampling="dino",
    norm_eps=1e-3,
    vit_args=dict(qk_norm=True, proj_drop_rate=0.1, fix_init=True),
)


@pytest.mark.parametrize("argument", list(inspect.signature(MaskedViT).parameters))
def test_whatever_a_trunk_was_trained_with_its_checkpoint_is_read(argument: str) -> None:
    told = dict(name="vit_tiny_patch16_224", img_size=32, patch_size=8)
    told |= dict(embed_dim=24, depth=2, num_heads=3)
    value = _OTHERS[argument]
    told |= value if isinstance(value, dict) else {argument: value}
    trunk = MaskedViT(**told).eval()  # type: ignore[arg-type]
    randomise(trunk)
    cfg = Config(dict(model=dict(type="MSN", backbone=dict(type="MaskedViT", **told))))
    state = {f"backbone.{k}": v for k, v in trunk.state_dict().items()}
    found = convert(RawCheckpoint("x", {"state_dict": state, "meta": {"cfg": cfg.pretty_text}}))
    again = load_trunk(found, "x")
    for side in (32, 48):
        x = images(side, channels=trunk.in_chans)
        assert torch.equal(again(x), trunk(x))


def test_a_switched_on_compiler_leaves_the_checkpoint_readable() -> None:
    for said in ({}, {"compile": False}, {"compile": "eager"}):
        cfg = tiny_digits()
        cfg.model.backbone.update(said)
        use_compile(cfg)
        assert cfg.model.backbone.compile == (said.get("compile") or True)
        model = MODELS.build(cfg.model)
        content = {"state_dict": model.state_dict(), "meta": {"cfg": cfg.pretty_text}}
        found = convert(RawCheckpoint("x", content))
        assert "compile" not in found.architecture.config()


@pytest.mark.parametrize("name", ["dino_digits", "ibot_digits"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_head_that_is_not_msn_s_is_never_called_so(
    name: str, batch_norm: bool, tmp_path: Path
) -> None:
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 3}
    options = {f"model.backbone.{k}": v for k, v in sizes.items()}
    cfg = load_config(name, {**options, "model.head.batch_norm": batch_norm})
    model = MODELS.build(cfg.model)
    randomise(model)
    optimizer = torch.optim.AdamW(decay_groups(model))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "meta": {"cfg": cfg.pretty_text}}, tmp_path / "epoch_1.pth")
    found = convert(read_source(tmp_path / "epoch_1.pth"))
    assert found.extras.keys() == {f"online.{k}" for k in model.backbone.state_dict()}
    assert {"optimizer", "head.projector.0.weight", "head.last_layer.weight"} <= set(found.ignored)
    assert found.used + len(found.ignored) == len(model.state_dict()) + 1
    assert not found.settings
    official = write(found, tmp_path / "a.pth.tar", "official")
    saved = torch.load(official.path, weights_only=True)
    assert official.left_out == [] and not {"opt", "prototypes"} & set(saved)
    assert not any(key.startswith("module.fc.") for key in saved["target_encoder"])
    write(found, tmp_path / "hf", "hf")
    assert not (tmp_path / "hf" / MSN_HEAD).exists()
    again = convert(read_source(official.path), arch={"heads": 3})
    assert all(torch.equal(again.trunk[k], v) for k, v in found.trunk.items())
