"""The view of a transfer: what each kind of model gets to see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmengine.config import Config

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.transfer_view import transfer_view

BARE = Config({"model": {"type": "mmpretrain.ResNet", "depth": 18}})


def shape(cfg: Config, image: tuple[int, int, int] = (20, 31, 3), **view: Any) -> tuple[int, ...]:
    return tuple(transfer_view(cfg, **view)({"img": np.zeros(image, np.uint8)}).shape)


def sides(cfg: Config, **view: Any) -> tuple[Any, Any]:
    made = transfer_view(cfg, **view)
    return made.size, made.crop


def with_crop(img_size: int | None = None, **crop: Any) -> Config:
    backbone = {"type": "MaskedViT", **({} if img_size is None else {"img_size": img_size})}
    dataset = {"type": "LabelledImages", "transform": {"type": "EvalCrop", **crop}}
    return Config({"model": {"backbone": backbone}, "test_dataloader": {"dataset": dataset}})


@pytest.mark.parametrize("name", ["msn_vits16", "msn_vitl7", "msn_folder"])
def test_large_models_see_the_paper_s_square(name: str) -> None:
    cfg = load_config(name)
    assert sides(cfg) == ([256, 256], 224)
    assert shape(cfg) == (3, 224, 224), "a small image is enlarged"
    assert shape(cfg, (400, 40, 1)) == (3, 224, 224), "a grey image becomes colour"


def test_the_square_shows_the_whole_width() -> None:
    # a short side of 256 would cut these two columns away
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, 8:10] = 255
    cfg = load_config("msn_vits16")
    assert transfer_view(cfg)({"img": image}).max() > 200
    assert transfer_view(cfg, resize_mode="short")({"img": image}).max() == 0


def test_small_models_see_their_own_size_uncut() -> None:
    assert sides(load_config("msn_cifar10")) == ([32, 32], None)
    digits = load_config("msn_digits")
    assert sides(digits) == ([32, 32], None)
    assert shape(digits) == (1, 32, 32), "a colour image becomes grey"


@pytest.mark.parametrize(
    ("cfg", "want"),
    [
        (BARE, (256, 224)),
        (with_crop(96, resize=110, crop=96), (110, 96)),
        (with_crop(resize=48, crop=None), (48, None)),
        (with_crop(224, resize=None, crop=None), (224, None)),
        (with_crop(resize=None, crop=80), (80, 80)),
        (Config({"model": {"type": "X", "img_size": 64}}), (64, None)),
        (Config({"model": {"type": "X", "img_size": [384, 384]}}), (439, 384)),
    ],
)
def test_sizes_of_other_configs(cfg: Config, want: tuple[int, int | None]) -> None:
    assert sides(cfg) == ([want[0], want[0]], want[1])


def test_channels_are_the_model_s() -> None:
    for model in (
        {"type": "X", "data_preprocessor": {"mean": [1.0], "std": [2.0]}},
        {"type": "X", "in_channels": 1},
        {"type": "X", "backbone": {"type": "Y", "in_chans": 1}},
    ):
        assert shape(Config({"model": model})) == (1, 224, 224)
    # one mean serves all channels
    assert shape(load_config("eval/raw_pixels")) == (3, 224, 224)
    assert shape(with_crop(resize=256, crop=224, channels=1)) == (1, 224, 224)
    assert shape(BARE) == (3, 224, 224) and shape(BARE, channels=1) == (1, 224, 224)


def test_settings_can_be_replaced() -> None:
    assert sides(BARE, resize=300) == ([300, 300], 224)
    assert sides(BARE, resize=128) == ([128, 128], None)
    assert sides(BARE, crop=200) == ([256, 256], 200)
    assert sides(BARE, resize=128, crop=112) == ([128, 128], 112)
    assert sides(BARE, resize_mode="short") == ([256], 224)
    assert transfer_view(BARE).interpolation.value == "bilinear"
    assert transfer_view(BARE, interpolation="bicubic").interpolation.value == "bicubic"
    for wrong in ({"crop": 300}, {"resize": 0}, {"interpolation": "nearest"}):
        with pytest.raises(UserError, match="transfer: EvalCrop"):
            transfer_view(BARE, **wrong)
