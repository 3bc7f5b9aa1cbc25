"""Arguments of what a config can name."""

from __future__ import annotations

import inspect
from typing import Any


def argument_names(target: Any) -> set[str] | None:
    """Return the names of the arguments ``target`` takes, ``None`` when it takes any."""
    names: set[str] = set()
    # An argument may be handed on by **kwargs to a base class.
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        if inspect.isclass(owner) and "__init__" not in vars(owner):
            continue
        try:
            parameters = inspect.signature(
                owner.__init__ if inspect.isclass(owner) else owner
            ).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - {"self"}
    return None
