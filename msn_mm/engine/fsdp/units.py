"""Which parts of a model are sharded each by itself."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

# What a trunk calls the list of its equal parts: timm's ViT, ResNet.
_REPEATED = ("blocks", "layer1", "layer2", "layer3", "layer4")


def units(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated parts of a model that have parameters: blocks, stages' layers."""
    for name, module in model.named_modules():
        listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if listed and name.rpartition(".")[2] in _REPEATED:
            yield from (part for part in module.children() if any(True for _ in part.parameters()))


def full_precision(unit: nn.Module) -> list[nn.Module]:
    """Return the parts of a unit whose weights autocast leaves alone: norms, layer scale."""
    return [
        part
        for part in unit.modules()
        if not isinstance(part, nn.Linear | nn.modules.conv._ConvNd)
        and not list(part.children())
        and list(part.parameters())
    ]


def whole_at_once(model: nn.Module, recomputed: nn.Module | None = None) -> int:
    """Return how many parameters a device holds whole at most: two units and what lies around.

    Args:
        model: The model, with all of its units.
        recomputed: A part that the backward pass runs forward once more as a whole, for
            which all of its units are fetched.
    """
    sizes = [sum(p.numel() for p in unit.parameters()) for unit in units(model)]
    around = sum(p.numel() for p in model.parameters()) - sum(sizes)
    # The next unit is fetched while one computes.
    most = 2 * max(sizes, default=0)
    if recomputed is not None:
        inside = sum(sum(p.numel() for p in unit.parameters()) for unit in units(recomputed))
        most = max(most, inside)
    return around + most
