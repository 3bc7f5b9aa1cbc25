"""Plain values that a checkpoint says of itself, checked before anything is built by them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from msn_mm.errors import UserError

_MOST = 10**6
_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def _is_size(value: Any) -> bool:
    return _is_count(value) or (
        isinstance(value, list | tuple) and len(value) <= 3 and all(map(_is_count, value))
    )


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value <= _MOST


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


# Arguments of timm's ``VisionTransformer`` that say how it is built, and nothing of where
# weights come from: ``checkpoint_path``, ``pretrained``, ``pretrained_cfg``, ``cache_dir`` and
# the like are a reader's to decide, never a file's.
_VIT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("img_size", "patch_size"), _or_none(_is_size)),
    **dict.fromkeys(("in_chans", "embed_dim", "depth", "num_heads", "num_classes"), _is_count),
    "reg_tokens": _is_count,
    "mlp_ratio": _is_positive,
    "init_values": _or_none(_is_number),
    "norm_eps": _or_none(_is_positive),
    **dict.fromkeys(
        ("qkv_bias", "proj_bias", "qk_norm", "pre_norm", "final_norm", "class_token", "fix_init"),
        _is_flag,
    ),
    **dict.fromkeys(
        ("no_embed_class", "dynamic_img_size", "scale_attn_norm", "scale_mlp_norm"), _is_flag
    ),
    # Of which MaskedViT makes nothing, so that they change no network.
    **dict.fromkeys(("dynamic_img_pad", "pool_include_prefix"), _is_flag),
    **dict.fromkeys(("embed_norm_layer", "device", "dtype"), lambda value: value is None),
    "fc_norm": _or_none(_is_flag),
    **dict.fromkeys(("name", "global_pool", "pos_embed", "weight_init"), _is_name),
    **dict.fromkeys(("act_layer", "norm_layer"), _or_none(_is_name)),
    **dict.fromkeys(
        ("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
        _is_share,
    ),
    # A branch that is always dropped would be divided by what is kept of it.
    "drop_path_rate": lambda value: _is_share(value) and value < 1,
}


_NOT_0 = ("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads")


def vit_setting_names() -> list[str]:
    """Return the arguments of timm's ``VisionTransformer`` that a file may tell."""
    return list(_VIT)


def is_vit_value(key: str, value: Any) -> bool:
    """Whether a ViT can have a value of a known setting, as far as it tells by itself."""
    return _VIT[key](value) and (value != 0 or key not in _NOT_0)


def vit_arguments(told: Any, source: str) -> dict[str, Any]:
    """Return a ViT's arguments as a file tells them.

    Args:
        told: A mapping of arguments of timm's ``VisionTransformer``.
        source: The file, for the error.

    Raises:
        UserError: It is no such mapping, or has an argument that says something
            else than how the network is built, or a value that is none.
    """
    if not isinstance(told, Mapping):
        raise UserError(f"what '{source}' says of its architecture is no mapping but {told!r:.40}")
    for key, value in told.items():
        if key not in _VIT:
            raise UserError(
                f"'{source}' asks for {key!r:.40}, which is no setting of a ViT's architecture; "
                "remove it from the file's config"
            )
        if not is_vit_value(key, value):
            raise UserError(f"'{source}' says {key}={value!r:.40}, which a ViT cannot have")
    return dict(told)


def channel_values(told: Any, name: str, source: str) -> tuple[float, ...]:
    """Return the mean or the deviation of each channel as a file tells it.

    Raises:
        UserError: These are no numbers, or a deviation is not positive.
    """
    if (
        not isinstance(told, list | tuple)
        or not 1 <= len(told) <= _MOST
        or not all(map(_is_number, told))
        or ("std" in name and min(told) <= 0)
    ):
        raise UserError(f"'{source}' says {name}={told!r:.40}; it must be a number a channel")
    return tuple(float(value) for value in told)
