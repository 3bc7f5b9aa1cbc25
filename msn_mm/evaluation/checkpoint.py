"""Weights for an evaluation, loaded as data and checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mmengine.dist import is_main_process
from torch import Tensor, nn

from msn_mm.convert.format import Converted, RawCheckpoint, convert
from msn_mm.convert.source import METADATA, read_source
from msn_mm.engine.checkpointing import checkpoint_file
from msn_mm.engine.distributed import decided_by_first
from msn_mm.errors import UserError
from msn_mm.models.ops.block_parts import num_heads
from msn_mm.utils.weights_fit import misfit

# Where checkpoints keep the trunk, the best first: MSN represents by its target.
_PREFIXES = ("target_backbone.", "backbone.")


def settled_checkpoint(source: str | None) -> str | None:
    """Return the file that a tool measures and records; all processes call, and get the same.

    Args:
        source: What the user named: see
            :func:`~msn_mm.engine.checkpointing.checkpoint_file`; ``None`` for the weights
            that the config builds.

    Raises:
        UserError: On all processes: it is a training's directory, and holds nothing whole.
    """
    if source is None:
        return None
    file, skipped = decided_by_first(partial(checkpoint_file, source))
    for line in skipped if is_main_process() else ():
        print(f"note: {line}", flush=True)
    return file


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, onto the host.

    Args:
        path: What :func:`msn_mm.convert.source.read_source` takes, with a
            ``state_dict``, as training writes it, or a bare state dict: names
            and tensors.

    Raises:
        UserError: There is no such file, it is not a whole checkpoint, or it
            holds code.
    """
    raw = read_source(path)
    state = _state(raw)
    if state is None:
        raise UserError(f"'{path}' has no 'state_dict'; give a checkpoint of tools/train.py")
    return state


def load_trunk_weights(trunk: nn.Module, path: str | Path) -> Converted | None:
    """Load a trunk from a checkpoint of its own or of any known format, strictly.

    Args:
        trunk: As its config builds it.
        path: As for :func:`read_weights`: weights of the trunk, of a model that
            has it under ``target_backbone.`` or ``backbone.``, or another
            format of docs/checkpoints.md.

    Returns:
        What a checkpoint of a known format says of itself beside its weights;
        ``None`` of one that came from the trunk's own config.

    Raises:
        UserError: There is no such file, or its weights belong to another trunk.
    """
    raw = read_source(path)
    state, own = _state(raw), set(trunk.state_dict())
    direct = None if state is None else _below_prefix(state)
    if direct is None or set(direct) != own or METADATA in raw.config:
        try:
            converted = convert(raw, arch=_settings(trunk))
        except UserError:
            if direct is None:
                raise
        else:
            if direct is None or own & set(converted.trunk):
                load_weights(trunk, converted.trunk, path)
                adopt_positions(trunk, converted)
                return converted
    assert direct is not None
    load_weights(trunk, direct, path)
    return None


def adopt_positions(trunk: nn.Module, converted: Converted) -> None:
    """Let a trunk resample its positions as the code does that its weights come from.

    At the size that the positions belong to this changes nothing.
    """
    resampling = getattr(converted.architecture, "resampling", None)
    if resampling is not None and hasattr(trunk, "resampling"):
        trunk.resampling = resampling


def load_weights(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
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
    check_fit(model, state, path)
    model.load_state_dict(state)


def check_fit(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse weights that are not this model's; the model may be on the device ``meta``.

    Raises:
        UserError: As :func:`load_weights`.
    """
    detail = misfit(model, state)
    if detail is not None:
        raise UserError(
            f"'{path}' belongs to another model: {detail}; give the config that it was trained with"
        )
    odd = [key for key, value in state.items() if not _is_plain(value)]
    if odd:
        raise UserError(f"'{path}': {odd[0]} is {state[odd[0]].dtype}, not plain real numbers")


def _is_plain(value: Tensor) -> bool:
    return not (value.is_complex() or value.is_sparse or value.is_quantized)


def _state(raw: RawCheckpoint) -> dict[str, Tensor] | None:
    if "state_dict" in raw.content:
        return raw.tensors("state_dict") or None
    tensors = raw.tensors()
    return tensors if tensors and len(tensors) == len(raw.content) else None


def _below_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inner:
            return inner
    return state


def _settings(trunk: nn.Module) -> dict[str, int]:
    """What the weights may not tell and the trunk knows: attention heads leave no trace."""
    vit = getattr(trunk, "vit", None)
    return {"heads": num_heads(vit)} if getattr(vit, "blocks", None) else {}
