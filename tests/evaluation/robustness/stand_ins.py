"""A small classifier of digits, trained for real, and a network whose answer is a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.encoder import build_model

LENET = """
model = dict(
    type="mmpretrain.ImageClassifier",
    data_preprocessor=dict(mean=[78.0], std=[90.0], num_classes=10),
    backbone=dict(type="mmpretrain.LeNet5"),
    neck=dict(type="mmpretrain.GlobalAveragePooling"),
    head=dict(type="mmpretrain.LinearClsHead", num_classes=10, in_channels=120),
)
test_cfg = dict()
test_dataloader = dict(
    batch_size=64,
    dataset=dict(
        type="LabelledImages",
        support=dict(type="Digits", split="pretrain"),
        query=dict(type="Digits", split="test", indices=200),
        transform=dict(type="EvalCrop", resize=32, crop=32, channels=1),
    ),
)
"""


def train_lenet(config: Path, out: Path, epochs: int) -> None:
    """Train LeNet-5 on digits for a few epochs and save it as a training does."""
    cfg = Config.fromfile(str(config))
    model = build_model(cfg.model, 0, wants_weights=True)
    data = labelled_data(cfg)
    images = torch.stack([data.support[i] for i in range(len(data.support))]).float()
    labels = torch.from_numpy(data.support_labels)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(64):
            logits = model((images[batch] - 78.0) / 90.0, mode="tensor")
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    meta: dict[str, Any] = {"dataset_meta": {"classes": [str(digit) for digit in range(10)]}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, out)


class PixelClassifier(nn.Module):
    """Its largest output is the number that an image's pixels spell.

    The mean of red is the upper part, the mean of green the lower: 8 · red + green.
    Images come normalised by mean 0 and deviation 1, so pixels are as they are.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` -> ``(B, K)``: a peak, lower the farther away."""
        red, green = images[:, 0].mean(dim=(1, 2)).round(), images[:, 1].mean(dim=(1, 2)).round()
        spelt = (8 * red + green)[:, None]
        places = torch.arange(self.outputs, device=images.device)
        return -(spelt - places).abs() + self.offset


def spell(number: int) -> tuple[int, int, int]:
    """Return the colour that spells a number below 2,048."""
    return number // 8, number % 8, 0
