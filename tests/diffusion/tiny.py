"""An RCDM small enough for a test: samples of 8 pixels, an encoder of width 24."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope

from msn_mm.registry import MODELS

pytest.importorskip("diffusers")

TRUNK = dict(type="MaskedViT", img_size=32, patch_size=8, in_chans=1)
TRUNK |= dict(embed_dim=24, depth=2, num_heads=3)
ENCODER = dict(model=TRUNK, data_preprocessor=dict(mean=[78.0], std=[90.0]))
UNET = dict(
    channels=(8, 16),
    attention=(False, True),
    layers=1,
    head_dim=8,
    groups=4,
    condition_width=12,
)


def tiny_settings(**changes: Any) -> dict[str, Any]:
    return {
        "type": "RCDM",
        "encoder": ENCODER,
        "image_size": 8,
        "encoder_size": 32,
        "unet": UNET,
        "schedule": dict(num_steps=20, betas="squaredcos_cap_v2"),
        "data_preprocessor": dict(type="MultiViewPreprocessor", mean=[127.5], std=[127.5]),
        **changes,
    }


def tiny_rcdm(moved: bool = True, **changes: Any) -> Any:
    """Build one; ``moved``: every weight away from its start, in both UNets alike."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("msn_mm"):
        model = MODELS.build(tiny_settings(**changes))
    if moved:
        with torch.no_grad():
            for parameter in model.unet.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.ema_unet.load_state_dict(model.unet.state_dict())
    return model


def view(images: int = 6) -> dict[str, dict[str, torch.Tensor]]:
    """A batch as the preprocessor gives it."""
    from msn_mm.datasets import Digits

    shown = [Digits().get_data_info(i)["img"] for i in range(images)]
    pixels = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in shown])
    keys = torch.arange(images, dtype=torch.int64) * 7919 + 12345
    return {"image": {"images": pixels.float() / 127.5 - 1.0, "key": keys}}
