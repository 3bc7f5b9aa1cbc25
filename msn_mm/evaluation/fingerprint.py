"""A hash of all that a module computes with: its weights and its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


def fingerprint(module: nn.Module, description: Mapping[str, Any]) -> str:
    """Return a hexadecimal hash of a module and of what is said about its use.

    Args:
        module: Its weights, buffers, classes and plain settings count.
        description: JSON values that count too.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    digest.update("\n".join(_settings(module)).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(module: nn.Module) -> list[str]:
    """One line a submodule: its class and all plain settings, which weights do not tell.

    Heads of an attention, strides and epsilons leave no trace in a state dict.
    """
    return [
        f"{name} {type(part).__module__}.{type(part).__qualname__} "
        + ", ".join(
            f"{key}={_plain(value)}"
            for key, value in sorted(vars(part).items())
            if key != "training" and not key.startswith("_") and _plain(value) is not None
        )
        for name, part in module.named_modules()
    ]


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, Sequence) and all(_plain(item) is not None for item in value):
        return repr([_plain(item) for item in value])
    return getattr(value, "__qualname__", None) if callable(value) else None
