"""An encoder together with its classification head, from a checkpoint.

Legend: B images, C channels, N patches, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from msn_mm.convert.format import Converted, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError
from msn_mm.models.readout import can_mask

# Of every published ViT classifier with a norm of its own (timm's ``fc_norm``).
_NORM_EPS = 1e-6


class FrozenClassifier(nn.Module):
    """A trunk and the classification head on top of it.

    Args:
        trunk: A ``MaskedViT``, or any module from images to ``(B, D)``.
        head: ``weight`` ``(K, D)`` and ``bias`` ``(K,)`` of a linear layer, and
            ``norm.weight`` and ``norm.bias`` ``(D,)`` where a LayerNorm comes before it.
        pooling: What the head reads of a ViT: the CLS token or the mean of the
            patch tokens, after the trunk's final norm if it has one.
        mean: Per-channel mean that the images are to be normalised by, on [0, 1].
        std: Per-channel standard deviation, likewise.
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: Mapping[str, Tensor],
        pooling: Literal["cls", "mean"],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        classes, width = head["weight"].shape
        self.trunk = trunk
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS) if "norm.weight" in head else nn.Identity()
        self.head = nn.Linear(width, classes)
        for module, prefix in ((self.norm, "norm."), (self.head, "")):
            own = {name: head[prefix + name] for name in module.state_dict()}
            module.load_state_dict(own)
        self.pooling = pooling
        self.num_classes = classes
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)``, normalised -> logits ``(B, K)``."""
        if self.pooling == "mean":
            tokens = self.trunk.forward_intermediates(images, blocks=1, norm=True)  # type: ignore[operator]
            rows = tokens[0][1].mean(dim=1)
        else:
            rows = self.trunk(images)
        return self.head(self.norm(rows))


def build_classifier(converted: Converted, source: str) -> FrozenClassifier:
    """Build the classifier that a converted checkpoint describes, in evaluation mode.

    Raises:
        UserError: The file has no classification head, or one that does not fit.
    """
    head = converted.classifier
    if not {"weight", "bias"} <= set(head):
        raise UserError(
            f"'{source}' ({converted.format}) has no classification head; load_backbone reads "
            "its encoder, and tools/lowshot.py fits a head"
        )
    trunk = load_trunk(converted, source)
    width = getattr(trunk, "embed_dim", head["weight"].shape[1])
    fits = head["weight"].shape[1] == width and len(head["bias"]) == len(head["weight"])
    if not fits or (converted.pooling == "mean" and not can_mask(trunk)):
        raise UserError(
            f"the head of '{source}' ({converted.format}) reads {head['weight'].shape[1]} numbers "
            f"and the encoder gives {width}; load_backbone reads its encoder alone"
        )
    model = FrozenClassifier(trunk, head, converted.pooling, converted.mean, converted.std)
    return model.eval().requires_grad_(False)


def load_classifier(
    source: str | Path,
    arch: Mapping[str, Any] | None = None,
    *,
    format: str = "auto",
    sha256: str | None = None,
) -> FrozenClassifier:
    """Load a supervised or fine-tuned classifier of any known format.

    Args:
        source: A file, a directory of Hugging Face, or a URL.
        arch: What weights do not tell; see :func:`~msn_mm.convert.format.convert`.
        format: The format's name, or ``auto`` to recognise it.
        sha256: Hash, or its beginning, that a URL's file must have.

    Returns:
        A module in evaluation mode: normalised images ``(B, C, H, W)`` to logits
        ``(B, K)``; ``mean``, ``std`` and ``num_classes`` are its attributes.

    Raises:
        UserError: The file cannot be read, is of no known format, or has no
            classification head.
    """
    raw = read_source(source, sha256)
    with torch.random.fork_rng(devices=[]):
        return build_classifier(convert(raw, format, arch), raw.source)
