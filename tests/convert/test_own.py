from __future__ import annotations

from pathlib import Path

import torch
from convert.vits import images, randomise
from helpers import tiny_digits

from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.formats.own import model_config
from msn_mm.convert.source import read_source
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
    assert {k: v for k, v in found.extras.items() if k != "prototypes"}.keys() == {
        f"projector.{k}" for k in projector
    }
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
