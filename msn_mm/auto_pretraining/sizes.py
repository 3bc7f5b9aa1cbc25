"""Encoders to choose from, small to large, and the heads that go with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A ViT and the head of its pre-training.

    Attributes:
        name: What it is called.
        width: D.
        depth: Blocks.
        heads: Attention heads of a block.
        hidden: Width of the projector's hidden layers.
        output: Width of its output.
        least_images: Fewer images do not fill it; a larger folder may take it.
    """

    name: str
    width: int
    depth: int
    heads: int
    hidden: int
    output: int
    least_images: int


LADDER = (
    Size("a ViT of width 96 with 4 blocks", 96, 4, 3, 256, 64, 0),
    Size("a ViT of width 192 with 6 blocks", 192, 6, 3, 512, 128, 2_500),
    Size("ViT-Ti", 192, 12, 3, 1024, 128, 10_000),
    Size("ViT-S", 384, 12, 6, 2048, 256, 20_000),
    Size("ViT-B", 768, 12, 12, 2048, 256, 500_000),
)


def head_of(width: int) -> tuple[int, int]:
    """Return hidden and output width of the head for an encoder of any width."""
    fitting = [size for size in LADDER if size.width <= width] or [LADDER[0]]
    return fitting[-1].hidden, fitting[-1].output


def largest_for(images: int) -> int:
    """Return the place on the ladder of the largest encoder that so many images fill."""
    return max(k for k, size in enumerate(LADDER) if size.least_images <= images)
