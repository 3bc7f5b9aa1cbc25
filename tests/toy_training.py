"""A training that takes a second: one dropout and one linear layer on eight numbers an image.

Configs written by :func:`write_config` import this module by name, in this
process and in those that a test starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.registry import DATASETS, MODELS


@DATASETS.register_module(force=True)
class ToyData(Dataset):
    """``length`` fixed vectors of 8 numbers and their sum."""

    def __init__(self, length: int = 16, data_root: str | None = None) -> None:
        self.data_root = data_root
        generator = torch.Generator().manual_seed(0)
        self.values = torch.randn(length, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        value = self.values[index]
        return {"inputs": value, "data_samples": {"index": index, "target": value.sum()}}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Regression of the sum through dropout, which draws from torch's global generator."""

    def __init__(self, width: int = 8, dropout: float = 0.5, bias: bool = False) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be positive, not {width}")
        self.layers = nn.Sequential(
            nn.Linear(8, width), SyncBatchNorm(width), nn.Dropout(dropout), nn.Linear(width, 1)
        )
        if bias:  # that does nothing
            self.register_parameter("bias", nn.Parameter(torch.zeros(1)))

    def forward(
        self, inputs: torch.Tensor, data_samples: dict[str, torch.Tensor], mode: str = "tensor"
    ) -> Any:
        out = self.layers(inputs).squeeze(1)
        return {"loss": (out - data_samples["target"]).square().mean()} if mode == "loss" else out


CONFIG = """
custom_imports = dict(imports=["toy_training", "msn_mm.engine.hooks.throughput_hook"])
default_scope = "msn_mm"
data_root = None
global_batch_size = 4
accumulation = 1
base_batch_size = 4
model = dict(type="ToyModel", width=8, dropout=0.5)
train_dataloader = dict(
    batch_size=None,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ToyData", length=16),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.01), clip_grad=None)
train_cfg = dict(by_epoch=True, max_epochs=2)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=4, by_epoch=True, eta_min=0.001,
         convert_to_iter_based=True)
]
randomness = dict(seed=3)
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", interval=1),
    logger=dict(type="LoggerHook", interval=2),
)
custom_hooks = [dict(type="ThroughputHook", warmup=1, window=4, interval=2)]
"""


def write_config(directory: Path, extra: str = "", name: str = "toy.py") -> Path:
    """Write the toy's config, with ``extra`` lines behind it, and return its path."""
    path = directory / name
    path.write_text(CONFIG + extra)
    return path
