"""timm's ViTs, supervised or not, with or without a head."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from msn_mm.convert.architecture import heads_of
from msn_mm.convert.format import (
    FORMATS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Converted,
    Format,
    RawCheckpoint,
)
from msn_mm.convert.plain import channel_values, vit_arguments
from msn_mm.convert.timm_names import is_vit, read_vit, wrapped
from msn_mm.convert.vit import settings
from msn_mm.errors import UserError

METADATA_KEY = "msn_mm.timm"
# Arguments that the weights tell, that training alone asks for, or that are read apart; all
# others build another network and may leave no trace in the weights.
_NO_OPTIONS = {
    *("name", "img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads"),
    *("num_classes", "global_pool", "fc_norm", "norm_eps", "dynamic_img_size"),
    *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
    *("drop_path_rate", "weight_init", "fix_init"),
}
_WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model", "")


@FORMATS.register_module()
class TimmViT(Format):
    """timm's ``VisionTransformer`` with a CLS token, as timm or DeiT save it.

    A Hugging Face directory of timm's has ``config.json``, which names the model
    and its normalisation; without it, a published width tells the heads, GELU is
    the activation, and the images are normalised by ImageNet's mean and deviation.
    """

    name = "timm"
    priority = -10
    verified = "the installed timm: timm.models.vision_transformer, timm.models._hub"

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether it holds a ViT in timm's names that no other format claims."""
        return is_vit(wrapped(raw, *_WRAPPERS))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read trunk and head.

        Raises:
            UserError: The model has tokens that the trunk cannot have.
        """
        state = wrapped(raw, *_WRAPPERS)
        if "dist_token" in state:
            raise UserError(
                f"'{raw.source}' is a distilled DeiT with a second class token; give one without"
            )
        told = _told(raw)
        converted = read_vit(
            self.name,
            raw,
            state,
            resampling=told.get("resampling", "timm"),
            arch=settings(arch),
            heads=_heads(told.get("heads")),
            options=told.get("options"),
        )
        if told.get("pooling") in ("cls", "mean"):
            converted.pooling = told["pooling"]
        converted.mean = channel_values(told.get("mean", IMAGENET_MEAN), "mean", raw.source)
        converted.std = channel_values(told.get("std", IMAGENET_STD), "std", raw.source)
        return converted


def says_timm(raw: RawCheckpoint) -> bool:
    """Whether a file says itself that it is timm's, whatever its tensors' names."""
    return "architecture" in raw.config or METADATA_KEY in raw.config.get("metadata", {})


def _told(raw: RawCheckpoint) -> dict[str, Any]:
    """What the file says beside its weights: our metadata, or timm's ``config.json``."""
    metadata = raw.config.get("metadata", {}).get(METADATA_KEY)
    if metadata:
        try:
            found = json.loads(metadata)
            return found | {k: found["architecture"][k] for k in ("heads", "options", "resampling")}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"the metadata of '{raw.source}' is damaged; convert it anew") from None
    pretrained = raw.config.get("pretrained_cfg")
    pretrained = pretrained if isinstance(pretrained, Mapping) else {}
    told = {key: pretrained[key] for key in ("mean", "std") if key in pretrained}
    name = raw.config.get("architecture")
    if not isinstance(name, str) or not timm.is_model(name):
        return told
    given = vit_arguments(raw.config.get("model_args") or {}, raw.source)
    # By the name alone no file decides what timm loads.
    with torch.device("meta"):
        known = cast(Any, timm.create_model(name, pretrained=False))
    if not isinstance(known, VisionTransformer):
        raise UserError(f"'{raw.source}' says that it is timm's '{name}', which is no plain ViT")
    block = cast(Any, known.blocks[0])
    told["heads"] = given.get("num_heads", int(block.attn.num_heads))
    told["options"] = {k: v for k, v in given.items() if k not in _NO_OPTIONS}
    told["options"] |= {"name": name, "global_pool": "token", "fc_norm": False}
    if given.get("global_pool", known.global_pool) == "avg":
        told["pooling"] = "mean"
    return told


def _heads(number: int | None) -> Callable[[int], int]:
    return heads_of if number is None else lambda width: number
