"""The optional library that has UNets and samplers."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from msn_mm.errors import UserError


def diffusers() -> ModuleType:
    """Import ``diffusers``, which takes seconds, at its first use.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module("diffusers")
    except ModuleNotFoundError as error:
        raise UserError(
            f"RCDM needs the package {error.name}: install it by pip install 'msn_mm[rcdm]'"
        ) from error
