"""timm's vision transformers, made ready to drop tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers import DropPath, PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from msn_mm.convert.plain import is_vit_value, vit_setting_names
from msn_mm.errors import UserError, did_you_mean
from msn_mm.models.ops.block_parts import branch_ends
from msn_mm.models.ops.stochastic_depth import KeyedDropPath


def build_vit(name: str, vit_args: dict[str, Any]) -> VisionTransformer:
    """Build a timm ViT that can drop tokens, without a classifier.

    Args:
        name: As timm names it.
        vit_args: Arguments of timm's ``VisionTransformer``.

    Raises:
        UserError: For an unknown name, a model that cannot drop tokens, or
            sizes that do not fit each other.
    """
    if not timm.is_model(name):
        known = timm.list_models("*vit*")
        raise UserError(f"timm has no model '{name}' for the backbone.{did_you_mean(name, known)}")
    entry = timm.models.model_entrypoint(name)
    try:
        vit = entry(pretrained=False, num_classes=0, **vit_args)
    except TypeError as error:
        with torch.device("meta"):
            _check_can_drop(name, entry(pretrained=False))
        raise UserError(f"timm's '{name}' does not take these arguments: {error}") from None
    except (ValueError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"timm's '{name}' cannot be built by these arguments: {text}") from error
    except AssertionError as error:
        raise UserError(f"the sizes of backbone '{name}' do not fit: {error}") from None
    _check_can_drop(name, vit)
    return vit


def check_vit_settings(told: Mapping[str, Any]) -> None:
    """Refuse what a trunk's checkpoint could not be read with, before anything is built.

    Args:
        told: Arguments of :class:`~msn_mm.models.MaskedViT` that timm is given too. Classes and
            functions pass, which only Python gives.

    Raises:
        UserError: For a setting that is none, or a value that it does not take.
    """
    known = vit_setting_names()
    for key, value in told.items():
        if callable(value):
            continue
        if key not in known:
            raise UserError(f"the backbone has no setting '{key}'.{did_you_mean(key, known)}")
        if not is_vit_value(key, value):
            raise UserError(f"the backbone's {key} is {value!r:.60}, which a ViT cannot have")
    if told.get("patch_drop_rate"):
        raise UserError(
            f"the backbone's patch_drop_rate is {told['patch_drop_rate']} and MaskedViT drops no "
            "patches by it: leave it out and set mask_ratio, of the model or of forward()"
        )


def _check_can_drop(name: str, vit: nn.Module) -> None:
    needed = {
        "is a ViT": type(vit) is VisionTransformer,
        "has a CLS token": getattr(vit, "cls_token", None) is not None,
        # A hybrid's are a whole network's features.
        "has plain patch embeddings": isinstance(getattr(vit, "patch_embed", None), PatchEmbed),
    }
    missing = [what for what, there in needed.items() if not there]
    if missing:
        raise UserError(
            f"backbone '{name}' ({type(vit).__name__}) cannot drop tokens: MaskedViT needs a timm "
            f"VisionTransformer that {' and '.join(missing)}, for example 'vit_small_patch16_224'"
        )


def key_drop_paths(vit: VisionTransformer) -> Sequence[KeyedDropPath]:
    """Replace timm's DropPath modules by keyed ones; return them in the order of the gates."""
    branches: list[KeyedDropPath] = []
    for block in vit.blocks:
        for owner, name in list(branch_ends(block)):
            path = getattr(owner, name)
            if isinstance(path, DropPath) and path.drop_prob:
                keyed = KeyedDropPath(float(path.drop_prob), index=len(branches))
                setattr(owner, name, keyed)
                branches.append(keyed)
    return branches
