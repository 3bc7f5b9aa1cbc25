"""Several linear classifiers side by side on the tokens of one frozen trunk.

Legend: B images, D width of the trunk, C classes, H heads, n blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEATURE = re.compile(r"cls([1-9]\d*)(\+avg)?")
_WEIGHT_STD = 0.01


@dataclass(frozen=True)
class Head:
    """One linear classifier: what it reads and how fast it learns.

    Attributes:
        blocks: CLS tokens of this many last blocks.
        average: And the mean of the last block's patch tokens.
        layer_norm: A layer norm of its own before the L2 normalisation, as released.
        lr_scale: Its learning rate, over that of the optimizer.
    """

    blocks: int = 1
    average: bool = False
    layer_norm: bool = False
    lr_scale: float = 1.0

    @property
    def feature(self) -> str:
        """What it reads: ``cls4+avg``."""
        return f"cls{self.blocks}" + ("+avg" if self.average else "")

    @property
    def name(self) -> str:
        """What tables call it: ``cls4+avg lr x0.3``."""
        return f"{self.feature}{' ln' if self.layer_norm else ''} lr x{self.lr_scale:g}"


PAPER = Head()
"""The setting of appendix C.3: the representation, L2-normalised, and one learning rate."""
RELEASED = Head(layer_norm=True)
"""The setting of the released code: a layer norm comes first."""


def parse_feature(feature: str) -> tuple[int, bool]:
    """Return blocks and average of a feature's name, ``cls1`` or ``cls4+avg``.

    Raises:
        ValueError: It is no such name.
    """
    found = _FEATURE.fullmatch(feature)
    if found is None:
        raise ValueError(f"feature '{feature}' is none; say cls1, cls4, cls1+avg or cls4+avg")
    return int(found[1]), bool(found[2])


def head_grid(
    features: Iterable[str], lr_scales: Iterable[float], layer_norms: Iterable[bool] = (False,)
) -> list[Head]:
    """Return all combinations, behind the settings of the paper and of the released code.

    Raises:
        ValueError: A feature's name or a learning rate is impossible.
    """
    scales = list(lr_scales)
    if any(not scale > 0 for scale in scales):
        raise ValueError(f"lr_scales must be above 0, not {scales}")
    grid = [
        Head(*parse_feature(feature), layer_norm, float(scale))
        for layer_norm in layer_norms
        for feature in features
        for scale in scales
    ]
    return list(dict.fromkeys([PAPER, RELEASED, *grid]))


class LinearHeads(nn.Module):
    """H linear classifiers, none of which knows of the others.

    Each L2-normalises its feature vector. Weights start from N(0, 0.01), biases at 0.

    Args:
        heads: The classifiers.
        width: D.
        num_classes: C.

    Attributes:
        blocks: How many blocks' CLS tokens the heads need.
        average: Whether they need the mean of the patch tokens.

    Source: appendix C.3 of arXiv 2204.07141, and the settings of its released code.
    """

    def __init__(self, heads: Sequence[Head], width: int, num_classes: int) -> None:
        super().__init__()
        self.heads = list(heads)
        self.width = width
        self.blocks, self.average = needed(heads)
        self.norms = nn.ModuleDict()
        self.linears = nn.ModuleList()
        for index, head in enumerate(heads):
            columns = (head.blocks + head.average) * width
            if head.layer_norm:
                self.norms[str(index)] = nn.LayerNorm(columns)
            linear = nn.Linear(columns, num_classes)
            nn.init.normal_(linear.weight, std=_WEIGHT_STD)
            nn.init.zeros_(linear.bias)
            self.linears.append(linear)

    def forward(self, rows: Tensor) -> list[Tensor]:
        """Classify.

        Args:
            rows: ``(B, (blocks + average) * D)``: CLS tokens, the last block's last,
                then the mean of the patch tokens.

        Returns:
            ``(B, C)`` logits of each head.
        """
        unit: dict[str, Tensor] = {}
        logits = []
        for index, (head, linear) in enumerate(zip(self.heads, self.linears, strict=True)):
            if head.layer_norm:
                normed = self.norms[str(index)](self._columns(rows, head))
                vectors = F.normalize(normed.float(), dim=1)
            else:
                if head.feature not in unit:
                    unit[head.feature] = F.normalize(self._columns(rows, head), dim=1)
                vectors = unit[head.feature]
            logits.append(linear(vectors).float())
        return logits

    def parameters_by_lr(self) -> Iterator[tuple[float, list[nn.Parameter]]]:
        """Yield the parameters of all heads with the same learning rate."""
        for scale in dict.fromkeys(head.lr_scale for head in self.heads):
            parts: list[nn.Parameter] = []
            for index, head in enumerate(self.heads):
                if head.lr_scale == scale:
                    parts += self.linears[index].parameters()
                    if head.layer_norm:
                        parts += self.norms[str(index)].parameters()
            yield scale, parts

    def _columns(self, rows: Tensor, head: Head) -> Tensor:
        first = (self.blocks - head.blocks) * self.width
        last = (self.blocks + head.average) * self.width
        return rows[:, first:last]


def needed(heads: Sequence[Head]) -> tuple[int, bool]:
    """Return how many blocks heads read, and whether any reads the mean of the patch tokens."""
    return max(head.blocks for head in heads), any(head.average for head in heads)


def hits(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return which images each head has right.

    Args:
        logits: ``(B, C)`` of each head.
        labels: ``(B,)``.

    Returns:
        bool ``(B, H, 2)``: among the first and the first five answers; ``(B, H, 1)``
        where there are five classes or fewer.
    """
    tops = (1, 5) if logits[0].shape[1] > 5 else (1,)
    right = []
    for answers in logits:
        ranked = answers.topk(tops[-1], dim=1).indices == labels[:, None]
        right.append(torch.stack([ranked[:, :top].any(dim=1) for top in tops], dim=1))
    return torch.stack(right, dim=1)
