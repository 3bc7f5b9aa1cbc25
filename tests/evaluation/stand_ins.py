"""A toy encoder and toy labelled data with the interface of the real ones."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset


class ToyLabelled(Dataset):
    """Images ``(1, 4, 4)`` uint8 of 3 classes; the first two thirds are support."""

    METAINFO = {"classes": ("ant", "bee", "cat")}

    def __init__(self, n: int = 45) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(n) % 3
        prototypes = torch.rand(3, 1, 4, 4, generator=generator) * 120
        noise = torch.rand(n, 1, 4, 4, generator=generator) * 100
        self.images = (prototypes[self.labels] + noise).to(torch.uint8)
        self.support = torch.arange(n) < 2 * n // 3

    @property
    def metainfo(self) -> dict[str, Any]:
        return dict(self.METAINFO)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "inputs": self.images[index],
            "data_samples": {
                "index": index,
                "label": int(self.labels[index]),
                "support": bool(self.support[index]),
            },
        }


class ToyPreprocessor(nn.Module):
    """Casts to float32."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        return {"inputs": data["inputs"].float() / 255, "data_samples": data["data_samples"]}


class ToyEncoder(BaseModel):
    """One linear layer with dropout, so that a forgotten eval mode shows."""

    def __init__(self, width: int = 6) -> None:
        super().__init__(data_preprocessor=ToyPreprocessor())
        torch.manual_seed(3)
        self.linear = nn.Linear(16, width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: Tensor, data_samples: dict[str, Any], mode: str = "tensor") -> Any:
        features = self.dropout(self.linear(inputs.flatten(1)))
        if mode == "tensor":
            return features
        assert mode == "predict"
        return [
            {"feature": f, "label": int(label), "support": bool(support)}
            for f, label, support in zip(
                features, data_samples["label"], data_samples["support"], strict=True
            )
        ]
