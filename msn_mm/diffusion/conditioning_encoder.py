"""The encoder that conditions an RCDM: built by a config, or by what a checkpoint says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.frozen_trunk import as_text, build_frozen_encoder, encoder_config, on_meta
from msn_mm.models.readout import ReadOut
from msn_mm.registry import MODELS

# Keys of a description beside those of every frozen encoder.
_FURTHER = frozenset({"norm", "resampling", "source"})


def encoder_description(encoder: Mapping[str, Any], built: Any) -> dict[str, Any]:
    """Return what builds an encoder again, its weights aside, as ``RCDM(encoder=...)`` takes it.

    Args:
        encoder: As given to the model.
        built: The frozen encoder.
    """
    cfg, checkpoint = encoder_config(encoder, _FURTHER)
    about = built.description()
    found = {
        "model": dict(cfg["model"]),
        "data_preprocessor": {key: [255.0 * v for v in about[key]] for key in ("mean", "std")},
        "norm": encoder.get("norm", True),
        "source": encoder.get("source")
        or {"config": encoder.get("config"), "checkpoint": checkpoint},
    }
    resampling = getattr(built.trunk, "resampling", None)
    return found if resampling is None else {**found, "resampling": resampling}


def saved_encoder(state: Mapping[str, Tensor], path: Any) -> dict[str, Any]:
    """Return the encoder's description that the state of an RCDM holds.

    Raises:
        UserError: It is the state of something else.
    """
    text = state.get("encoder_text")
    if text is None:
        raise UserError(
            f"'{path}' is no RCDM: it names no encoder; give a checkpoint of tools/rcdm.py train"
        )
    found: dict[str, Any] = json.loads(as_text(text))
    return found


def build_encoder(encoder: Mapping[str, Any], amp: bool) -> Any:
    """Build the frozen encoder that a model's ``encoder`` names.

    Args:
        encoder: ``config`` and ``checkpoint``, or a description that a checkpoint holds.
        amp: Let it compute in bfloat16 where that is safe.
    """
    cfg, checkpoint = encoder_config(encoder, _FURTHER)
    readout = ReadOut(norm=_can_norm(cfg) and encoder.get("norm", True))
    is_saved = encoder.get("source") is not None
    built = build_frozen_encoder(cfg, checkpoint, readout, amp, quiet=is_saved)
    if encoder.get("resampling") is not None and not on_meta():
        built.trunk.resampling = encoder["resampling"]
    return built


def _can_norm(cfg: Mapping[str, Any]) -> bool:
    """Whether a trunk has tokens before and after a final norm; others have one output."""
    from msn_mm.models.backbones.masked_vit import MaskedViT

    model = cfg["model"]
    kind = (model.get("backbone") or model).get("type")
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(found, type) and issubclass(found, MaskedViT)
