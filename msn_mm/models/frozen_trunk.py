"""The frozen encoder that a model is trained on top of, from the settings of a config."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.readout import ReadOut
from msn_mm.registry import MODELS


def encoder_config(
    encoder: Mapping[str, Any], further: frozenset[str] = frozenset()
) -> tuple[Mapping[str, Any], str | None]:
    """Return the config that describes an encoder, and its checkpoint.

    Args:
        encoder: ``config`` (path or name of a config with a ``model``), its
            ``cfg_options``, and ``checkpoint``; or ``model`` and
            ``data_preprocessor`` themselves in place of a config.
        further: What else the mapping may hold.

    Raises:
        UserError: Another key, or no network.
    """
    from msn_mm.engine.launch import load_config

    known = {"config", "cfg_options", "checkpoint", "model", "data_preprocessor"} | further
    unknown = sorted(set(encoder) - known)
    if unknown:
        raise UserError(f"model.encoder has no '{unknown[0]}'; it takes {', '.join(sorted(known))}")
    checkpoint = encoder.get("checkpoint")
    if encoder.get("config") is not None:
        return load_config(encoder["config"], encoder.get("cfg_options")), checkpoint
    if encoder.get("model") is None:
        raise UserError("model.encoder names no network: set model.encoder.config or .model")
    return {k: v for k, v in encoder.items() if k != "checkpoint"}, checkpoint


def build_frozen_encoder(
    cfg: Mapping[str, Any], checkpoint: str | None, readout: ReadOut, amp: bool, quiet: bool = False
) -> Any:
    """Build the :class:`~msn_mm.evaluation.encoder.FrozenEncoder` of a config.

    Args:
        cfg: From :func:`encoder_config`.
        checkpoint: Its weights; None for those that the config builds, of which the
            log warns.
        readout: Which tensor is the representation.
        amp: Compute in bfloat16 where that is safe.
        quiet: Weights will come from elsewhere: warn of nothing.
    """
    # Evaluation builds on models, so this is not known while models are imported.
    from msn_mm.evaluation.encoder import build_encoder, encoder_of

    if on_meta():
        model = MODELS.build(dict(cfg["model"]))
        return encoder_of(model, readout, amp, cfg.get("data_preprocessor"))
    if checkpoint is None and not cfg.get("checkpoint") and not quiet:
        MMLogger.get_current_instance().warning(
            "model.encoder.checkpoint is not given: the trunk has the weights that its config "
            "builds, random ones unless it loads some"
        )
    return build_encoder(cfg, checkpoint, readout, amp=amp)


def on_meta() -> bool:
    """Whether shapes alone are asked for, as in a dry run."""
    return torch.empty(0).device.type == "meta"


def as_bytes(text: str) -> Tensor:
    """Return a text as uint8, which a checkpoint of tensors can hold."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def as_text(content: Tensor) -> str:
    """Return what :func:`as_bytes` was given."""
    return bytes(content.tolist()).decode()


def trunk_digest(trunk: nn.Module) -> Tensor:
    """32 bytes that tell a trunk's weights from others'."""
    if on_meta():
        return torch.empty(32, dtype=torch.uint8)
    digest = hashlib.sha256()
    for name, value in sorted(trunk.state_dict().items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
