"""Weights of a pre-training checkpoint, loaded as data and checked against the model."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from torch import nn

from msn_mm.errors import UserError


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint, onto the host.

    Args:
        path: A file with a ``state_dict``, as training writes it, or a bare
            state dict: names and tensors.

    Raises:
        UserError: There is no such file, it is not a whole checkpoint, or it
            holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint: '{path}'")
    if not zipfile.is_zipfile(path):
        raise UserError(f"'{path}' is not a whole checkpoint (cut off, or another kind of file)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError) as error:
        raise UserError(f"'{path}' cannot be read: {_first_line(error)}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' holds more than tensors and plain values and is not loaded, because that "
            "could run code; save it anew with its weights only"
        ) from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if state is None and isinstance(checkpoint, dict) and checkpoint:
        is_bare = all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in checkpoint.items()
        )
        state = checkpoint if is_bare else None
    if not isinstance(state, dict):
        raise UserError(f"'{path}' has no 'state_dict'; give a checkpoint of tools/train.py")
    return state


def load_weights(model: nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Load all weights of a model.

    Unlike MMEngine's loading, which only warns, weights that do not fit the
    model are an error: an evaluation must not measure random weights.

    Args:
        model: The whole model, as its config builds it.
        state: From :func:`read_weights`.
        path: The checkpoint, for the error message.

    Raises:
        UserError: The checkpoint belongs to another config.
    """
    own = model.state_dict()
    other_shape = [k for k in own if k in state and own[k].shape != state[k].shape]
    missing = [k for k in own if k not in state]
    unknown = [k for k in state if k not in own]
    if other_shape:
        key = other_shape[0]
        detail = f"{key} is {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
    elif missing:
        detail = f"it lacks {len(missing)} weights such as {missing[0]}"
    elif unknown:
        detail = f"it has {len(unknown)} weights that the model lacks, such as {unknown[0]}"
    else:
        model.load_state_dict(state)
        return
    raise UserError(
        f"'{path}' belongs to another model: {detail}; give the config that it was trained with"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
