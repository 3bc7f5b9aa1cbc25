"""Whether a config's ``type`` means a class: by name, by scope or path and name, or by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCOPES = ("", "mmengine", "msn_mm")


def builds(config: Mapping[str, Any], *names: str, default: str = "") -> bool:
    """Return whether a config builds one of the classes of these names.

    Args:
        config: A registry's config.
        *names: Names of classes of this project or of MMEngine, without a scope.
        default: What a config without a ``type`` builds.
    """
    kind = config.get("type") or default
    if isinstance(kind, type):
        return kind.__name__ in names and kind.__module__.partition(".")[0] in _SCOPES
    scope, _, name = str(kind).rpartition(".")
    return name in names and scope.partition(".")[0] in _SCOPES
