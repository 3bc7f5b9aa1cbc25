"""timm's ViTs, supervised or not, with or without a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import timm
import torch

from msn_mm.convert.architecture import heads_of
from msn_mm.convert.format import (
    FORMATS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Converted,
    Format,
    RawCheckpoint,
)
from msn_mm.convert.timm_names import is_vit, read_vit, settings, wrapped
from msn_mm.errors import UserError

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
        named = str(raw.config.get("architecture", ""))
        heads, options, known = heads_of, dict[str, Any](), None
        if timm.is_model(named):
            with torch.device("meta"):
                known = timm.create_model(named, **raw.config.get("model_args", {}))
            number = int(cast(Any, known).blocks[0].attn.num_heads)
            heads = lambda width: number  # noqa: E731
            options = {"name": named, "global_pool": "token", "fc_norm": False}
        converted = read_vit(
            self.name,
            raw,
            state,
            resampling="timm",
            arch=settings(arch),
            heads=heads,
            options=options,
        )
        if getattr(known, "global_pool", "token") == "avg":
            converted.pooling = "mean"
        pretrained = raw.config.get("pretrained_cfg", {})
        converted.mean = tuple(pretrained.get("mean", IMAGENET_MEAN))
        converted.std = tuple(pretrained.get("std", IMAGENET_STD))
        return converted
