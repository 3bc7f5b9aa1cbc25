"""SimCLR and BYOL small enough for a test, and a batch for them."""

from __future__ import annotations

import copy
from typing import Any

import torch

from msn_mm.models.methods.byol import BYOL
from msn_mm.models.methods.simclr import SimCLR

BACKBONE = dict(type="PlainResNet", layers=(1, 1), block="basic", base_channels=4, stem="small")
NECK = dict(
    type="NonLinearNeck",
    hid_channels=16,
    out_channels=6,
    with_avg_pool=False,
    norm_cfg=dict(type="SyncBatchNorm"),
)
BYOL_NECK = dict(NECK, with_bias=True, with_last_bn=False)


def tiny_simclr(**changes: Any) -> SimCLR:
    torch.manual_seed(0)
    head = dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.1)
    return SimCLR(**copy.deepcopy({**dict(backbone=BACKBONE, neck=NECK, head=head), **changes}))


def tiny_byol(**changes: Any) -> BYOL:
    torch.manual_seed(0)
    head = dict(
        type="LatentPredictHead",
        predictor=BYOL_NECK,
        loss=dict(type="CosineSimilarityLoss", shift_factor=2.0, scale_factor=2.0),
    )
    config = dict(backbone=BACKBONE, neck=BYOL_NECK, head=head)
    return BYOL(**copy.deepcopy({**config, **changes}))


def pair(batch: int = 4, seed: int = 0, rank: int = 0, world: int = 1, one_group: bool = False):
    """This rank's rows of the joint batch of two views, view-major, in float64."""
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(2, batch, 3, 12, 12, generator=g, dtype=torch.float64)
    keys = torch.randint(0, 2**32, (2, batch), generator=g)
    images, keys = images[:, rank::world], keys[:, rank::world]
    if one_group:
        return {"views": {"images": images.flatten(0, 1), "key": keys.flatten()}}
    return {
        name: {"images": images[k].clone(), "key": keys[k]} for k, name in enumerate(("one", "two"))
    }
