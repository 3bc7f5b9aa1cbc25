"""The published weights that a config of a backbone names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from msn_mm.convert.format import Converted, convert
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import adopt_positions, load_weights

_KEYS = ("source", "format", "arch", "sha256", "license")


def load_published(trunk: nn.Module, entry: str | Mapping[str, Any]) -> Converted:
    """Load the weights that a config's ``checkpoint`` names into its trunk, strictly.

    Args:
        trunk: As the config builds it.
        entry: Address or path, or a mapping with ``source`` and, where they are
            needed, ``format``, ``arch`` (what weights do not tell), ``sha256``
            and ``license`` (for the reader).

    Returns:
        The converted checkpoint, which knows how its images are normalised.

    Raises:
        UserError: The entry or the file is wrong, or the weights belong to
            another model than the config's.
    """
    settings: dict[str, Any] = {"source": entry} if isinstance(entry, str) else dict(entry)
    if unknown := [key for key in settings if key not in _KEYS]:
        raise UserError(
            f"the config's checkpoint has no '{unknown[0]}'; it may have {', '.join(_KEYS)}"
        )
    if not isinstance(settings.get("source"), str):
        raise UserError(
            "the config's checkpoint names no source; give checkpoint.source, the path or "
            "address of a file"
        )
    raw = read_source(settings["source"], settings.get("sha256"))
    converted = convert(raw, settings.get("format", "auto"), settings.get("arch"))
    load_weights(trunk, converted.trunk, raw.source)
    adopt_positions(trunk, converted)
    return converted
