"""A hash of all that a module computes with: its weights and its settings."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msn_mm.models import readout
from msn_mm.models.preprocessors import multi_view

# What torch keeps in a module beside its settings.
_NO_SETTINGS = {"training", *vars(nn.Module())}


def fingerprint(module: nn.Module, description: Mapping[str, Any]) -> str:
    """Return a hexadecimal hash of a module and of what is said about its use.

    Args:
        module: Its weights, buffers, classes and plain settings count.
        description: JSON values that count too.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    digest.update("\n".join(_settings(module)).encode())
    for source in _sources(module):
        digest.update(source)
    # Buffers that no checkpoint keeps are computed with all the same.
    tensors = {**dict(module.named_buffers()), **module.state_dict()}
    for name, value in sorted(tensors.items()):
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
            if key not in _NO_SETTINGS and _plain(value) is not None
        )
        for name, part in module.named_modules()
    ]


def _sources(module: nn.Module) -> list[bytes]:
    """The source files of all classes of a module and of the read-out, each once.

    Someone who edits a model between two evaluations keeps its version number.
    """
    kinds: set[Any] = {base for part in module.modules() for base in type(part).__mro__[:-1]}
    files = {inspect.getsourcefile(kind) for kind in kinds if kind.__module__ != "builtins"}
    files |= {readout.__file__, multi_view.__file__, encoder_file()}
    return [Path(file).read_bytes() for file in sorted(filter(None, files)) if Path(file).is_file()]


def encoder_file() -> str:
    """Return the file that turns images into features."""
    return str(Path(__file__).with_name("encoder.py"))


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(str(value.detach().cpu().tolist()).encode()).hexdigest()
    if isinstance(value, Mapping):
        return repr({str(key): _plain(item) for key, item in value.items()})
    if isinstance(value, partial):
        return repr([_plain(value.func), _plain(value.args), _plain(value.keywords)])
    if isinstance(value, set | frozenset):
        return repr(sorted(str(_plain(item)) for item in value))
    if isinstance(value, Sequence) and all(_plain(item) is not None for item in value):
        return repr([_plain(item) for item in value])
    return getattr(value, "__qualname__", None) if callable(value) else None
