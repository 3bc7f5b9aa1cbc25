"""An encoder together with its classification head, from a checkpoint.

Legend: B images, C channels, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.convert.format import Converted, convert, load_trunk
from msn_mm.errors import UserError


class FrozenClassifier(nn.Module):
    """A trunk and the linear layer on top of its representation.

    Args:
        trunk: Images to ``(B, D)``: CLS after the final norm, or the mean of a
            feature map.
        head: ``weight`` ``(K, D)`` and ``bias`` ``(K,)``.
        mean: Per-channel mean that the images are to be normalised by, on [0, 1].
        std: Per-channel standard deviation, likewise.

    Raises:
        ValueError: The head does not fit the trunk.
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: Mapping[str, Tensor],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        classes, width = head["weight"].shape
        if getattr(trunk, "embed_dim", width) != width or head["bias"].shape != (classes,):
            raise ValueError(f"a head of {classes} x {width} on another trunk")
        self.trunk = trunk
        self.head = nn.Linear(width, classes)
        self.head.load_state_dict(dict(head))
        self.num_classes = classes
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)``, normalised -> logits ``(B, K)``."""
        return self.head(self.trunk(images))


def build_classifier(converted: Converted, source: str) -> FrozenClassifier:
    """Build the classifier that a converted checkpoint describes, in evaluation mode.

    Raises:
        UserError: The file has no classification head.
    """
    head = converted.classifier
    if not {"weight", "bias"} <= set(head):
        raise UserError(
            f"'{source}' ({converted.format}) has no classification head; load_backbone reads "
            "its encoder, and tools/lowshot.py fits a head"
        )
    width = head["weight"].shape[1]
    trunk = load_trunk(converted, source)
    if set(head) != {"weight", "bias"} or getattr(trunk, "embed_dim", width) != width:
        raise UserError(
            f"the head of '{source}' ({converted.format}) reads something else than the encoder's "
            f"representation of width {getattr(trunk, 'embed_dim', width)}; its encoder can be "
            "read by load_backbone"
        )
    model = FrozenClassifier(trunk, head, converted.mean, converted.std)
    return model.eval().requires_grad_(False)


def load_classifier(
    path: str | Path, arch: Mapping[str, Any] | None = None, name: str = "auto"
) -> FrozenClassifier:
    """Load a supervised or fine-tuned classifier.

    Args:
        path: A file, a directory of Hugging Face, or a URL.
        arch: What weights do not tell; see :func:`~msn_mm.convert.format.convert`.
        name: The format, or ``auto`` to recognise it.

    Returns:
        A module in evaluation mode: normalised images ``(B, C, H, W)`` to logits
        ``(B, K)``; ``mean``, ``std`` and ``num_classes`` are its attributes.

    Raises:
        UserError: The file cannot be read, is of no known format, or has no
            classification head.
    """
    from msn_mm.convert.source import read_source

    raw = read_source(path)
    with torch.random.fork_rng(devices=[]):
        return build_classifier(convert(raw, name, arch), raw.source)
