"""Image files and a small encoder for tests of extraction, also in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from msn_mm.datasets import EvalCrop, EvaluationImages, ImageFolder
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder

COUNT = 23  # no batch size of the tests divides it
# bfloat16 keeps 8 bits: about 0.4 % a rounding, a few of which add up in a block.
# In L2 norm, relative to the row.
AMP_TOLERANCE = 0.02
VIT = dict(type="MaskedViT", name="vit_tiny_patch16_224", img_size=32, patch_size=8)
VIT |= dict(embed_dim=24, depth=2, num_heads=3)


def write_photos(folder: Path, count: int = COUNT) -> Path:
    """Write JPEG files of different sizes and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((60 + i, 50 + 2 * i), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:02d}.jpg")
    return folder


class Counted(EvalCrop):
    """A view that notes in a file what it reads, whichever process reads it."""

    def __init__(self, *args: Any, log: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log = log

    def __call__(self, results: dict[str, Any]) -> Tensor:
        with self._log.open("a") as file:
            file.write(f"{Path(results['img_path']).stem}\n")
        return super().__call__(results)

    def read(self) -> list[str]:
        """Return what was read since the last call, sorted."""
        names = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return sorted(names)


def images_of(folder: Path, log: Path | None = None) -> EvaluationImages:
    view = EvalCrop(40, 32) if log is None else Counted(40, 32, log=log)
    # Serialising would collect garbage over all that is imported, a second each time.
    return EvaluationImages(ImageFolder(folder, serialize_data=False), view)


def encoder(model: dict[str, Any] | None = None, **kwargs: Any) -> FrozenEncoder:
    torch.set_num_threads(1)
    return build_encoder(Config(dict(model=model or VIT)), None, device="cpu", **kwargs)
