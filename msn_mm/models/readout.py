"""Which tensor of a frozen trunk is the representation of an image.

Legend: B images, C channels, N tokens, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError


@dataclass(frozen=True)
class ReadOut:
    """What to take of a trunk.

    Attributes:
        blocks: CLS tokens of this many last blocks, concatenated, the last block last.
        norm: After the trunk's final norm instead of before it.
        average: The mean of the last block's patch tokens behind them.
    """

    blocks: int = 1
    norm: bool = False
    average: bool = False

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise UserError(f"blocks is {self.blocks}; take the CLS token of at least 1 block")


def trunk_of(model: nn.Module) -> nn.Module:
    """Return the part of a model that represents images.

    That is its ``target_backbone`` (the moving average of MSN), else its
    ``backbone`` (every self-supervised method and classifier of mmpretrain),
    else the model itself.
    """
    for name in ("target_backbone", "backbone"):
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            return part
    return model


def can_mask(trunk: nn.Module) -> bool:
    """Whether a trunk can drop patches and give the tokens of chosen blocks."""
    parameters = _parameters(getattr(trunk, "forward_intermediates", None))
    return {"blocks", "norm", "mask_ratio", "keys"} <= parameters


def check_readout(trunk: nn.Module, readout: ReadOut, mask_ratio: float = 0.0) -> None:
    """Refuse a read-out or a mask that a trunk cannot give.

    Raises:
        UserError: It has no blocks to choose from, too few, or cannot mask.
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise UserError(f"the mask ratio is {mask_ratio}; it must lie in [0, 1)")
    if can_mask(trunk):
        depth = len(getattr(getattr(trunk, "vit", None), "blocks", ())) or readout.blocks
        if readout.blocks > depth:
            raise UserError(f"{readout.blocks} blocks were asked for and the backbone has {depth}")
        return
    asked = []
    if readout.blocks != 1:
        asked.append(f"the last {readout.blocks} blocks")
    if readout.norm:
        asked.append("the tokens after the final norm")
    if readout.average:
        asked.append("the mean of its patch tokens")
    if mask_ratio:
        asked.append("masked images")
    if asked:
        raise UserError(
            f"backbone {type(trunk).__name__} cannot give {' or '.join(asked)}; use "
            "type='MaskedViT' (any timm ViT by name), or ask for its plain output"
        )


def represent(
    trunk: nn.Module,
    images: Tensor,
    readout: ReadOut = ReadOut(),
    mask_ratio: float = 0.0,
    keys: Tensor | None = None,
) -> Tensor:
    """Represent images by a trunk.

    A trunk with the ``forward_intermediates`` of
    :class:`~msn_mm.models.MaskedViT` gives CLS tokens of its last blocks
    (appendix C.1 and C.2 of arXiv 2204.07141: one block, before the final norm).
    Of any other trunk's output counts the last item of a tuple or list: of
    tokens the CLS token (their mean where there is none), of a feature map the
    mean over its places, of vectors themselves.

    Args:
        trunk: The backbone.
        images: ``(B, C, H, W)``, normalised.
        readout: Which tokens.
        mask_ratio: Share of patches to drop.
        keys: ``(B,)`` int64; the masks are then functions of the keys.

    Returns:
        ``(B, D)``.

    Raises:
        UserError: The trunk cannot give what was asked for.
    """
    check_readout(trunk, readout, mask_ratio)
    if can_mask(trunk):
        wanted: dict[str, Any] = dict(blocks=readout.blocks, norm=readout.norm)
        wanted |= dict(mask_ratio=mask_ratio, keys=keys)
        if hasattr(trunk, "forward_cls") and not readout.average:
            parts = trunk.forward_cls(images, **wanted)  # type: ignore[operator]
        else:
            tokens = trunk.forward_intermediates(images, **wanted)  # type: ignore[operator]
            parts = [pair[0] for pair in tokens]
            if readout.average:
                parts.append(tokens[-1][1].mean(dim=1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    # Masked image modelling: its trunks mask by themselves unless told not to.
    whole: dict[str, Any] = {"mask": None} if "mask" in _parameters(trunk.forward) else {}
    try:
        output = trunk(images, **whole)
    except TypeError as error:
        raise UserError(
            f"backbone {type(trunk).__name__} does not run on images alone ({_line(error)}); "
            "evaluate the plain network that its weights fit"
        ) from error
    while isinstance(output, Sequence):
        output = output[-1]
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4) or len(output) != len(images):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"backbone {type(trunk).__name__} gives {shape} for {len(images)} images; a "
            "representation is (B, D), (B, N, D) or (B, C, H, W)"
        )
    if output.ndim == 4:
        return output.mean(dim=(1, 2) if _channels_last(trunk) else (2, 3))
    if output.ndim == 3:
        if _has_cls(trunk):
            return output[:, 0]
        return output.mean(dim=2 if _is_channels_first(trunk, output) else 1)
    return output


def encode_whole(trunk: nn.Module, images: Tensor, keys: Tensor | None = None) -> Tensor:
    """Encode whole images by a trunk that is being trained.

    A :class:`~msn_mm.models.MaskedViT` gives its CLS token after the final norm, and
    its stochastic depth follows the keys; any other trunk what :func:`represent` reads.

    Args:
        trunk: The backbone.
        images: ``(B, C, H, W)``, normalised.
        keys: ``(B,)`` int64, one a view.

    Returns:
        ``(B, D)``.
    """
    return trunk(images, keys=keys) if can_mask(trunk) else represent(trunk, images)


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) if callable(function) else set()


def _channels_last(trunk: nn.Module) -> bool:
    """timm's hierarchical transformers give (B, H, W, C) and say so."""
    return "NHWC" in str(getattr(_inner(trunk), "output_fmt", ""))


def _has_cls(trunk: nn.Module) -> bool:
    inner = _inner(trunk)
    prefix = getattr(inner, "num_prefix_tokens", None)
    return isinstance(getattr(inner, "cls_token", None), Tensor) if prefix is None else prefix > 0


def _is_channels_first(trunk: nn.Module, tokens: Tensor) -> bool:
    """mmpretrain's mixers give (B, D, N); its width is then the second dimension, not the last."""
    width = getattr(trunk, "embed_dims", None)
    return width == tokens.shape[1] and width != tokens.shape[2]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _inner(trunk: nn.Module) -> nn.Module:
    """timm's model inside of mmpretrain's wrapper, or the trunk."""
    return getattr(trunk, "timm_model", trunk)
