"""Names that one config file lends to another, and the settings that are left without them."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config


def keep_settings(cfg: Config) -> None:
    """Drop top-level names with a leading underscore and give every setting its own value.

    A file under ``configs/_base_`` may define such names for the files that
    inherit it (``backbone=_base_._digits_vit``). In the whole config nothing
    reads them, so an option that set one would change nothing. A value used in
    several places is one object until here; a change in one place would show
    in all.
    """
    for key in list(cfg):
        value = cfg.pop(key)
        if not key.startswith("_"):
            cfg[key] = _own(value)


def _own(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value)({key: _own(item) for key, item in value.items()})
    return type(value)(map(_own, value)) if isinstance(value, list | tuple) else value
