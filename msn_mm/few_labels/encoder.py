"""The frozen encoder of a classifier: any checkpoint, in the one form that its file keeps.

What learns and what predicts later is built from that form alike, so both see
the same features.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from msn_mm.convert.format import Converted, RawCheckpoint, convert, load_trunk
from msn_mm.convert.formats.own import METADATA_KEY
from msn_mm.convert.source import METADATA, read_source
from msn_mm.datasets import EvalCrop
from msn_mm.datasets.pixel_window import window_setting
from msn_mm.engine.checkpointing import checkpoint_file
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder
from msn_mm.evaluation.folder_images import folder_view
from msn_mm.evaluation.normalisation import pixel_scale
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.backbones.plain_resnet import PlainResNet
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor
from msn_mm.models.readout import represent

# Largest relative difference between a trunk and its canonical form.
_TOLERANCE = 1e-4
_CANNOT_HOLD = (
    "a classifier's file cannot hold the backbone {kind} as its config reads it; it holds "
    "type='MaskedViT' and type='PlainResNet', and what a checkpoint without --config is read as"
)


@dataclasses.dataclass(frozen=True)
class EncoderSource:
    """An encoder that one file can hold.

    Attributes:
        converted: Trunk and normalisation in canonical form, nothing else.
        view: What is cut out of an image.
        name: The checkpoint that it came from.
        notes: What was passed over, one sentence each.
    """

    converted: Converted
    view: EvalCrop
    name: str
    notes: list[str] = dataclasses.field(default_factory=list)

    def build(self, device: torch.device | str | None = None, amp: bool = False) -> FrozenEncoder:
        """Return the encoder; see :func:`frozen_encoder`."""
        return frozen_encoder(self.converted, self.name, device, amp)


def read_encoder(
    checkpoint: str | Path | None,
    config: Config | None = None,
    format: str = "auto",
    arch: Mapping[str, Any] | None = None,
) -> EncoderSource:
    """Read the encoder that a checkpoint holds.

    Args:
        checkpoint: A file, a Hugging Face directory or an address of any known
            format, or the directory of a training, whose newest whole checkpoint
            is taken; ``None`` for the weights that the config builds.
        config: The model's config, for its view and for a checkpoint that does not
            say itself how it is built.
        format: As :func:`~msn_mm.convert.format.convert`, without a config.
        arch: Likewise.

    Raises:
        UserError: There is no such checkpoint, it is of no known format, or its
            trunk is of a kind that the file does not hold.
    """
    notes: list[str] = []
    if checkpoint is not None:
        checkpoint, notes = checkpoint_file(checkpoint)
    name = "the config's own weights" if checkpoint is None else str(checkpoint)
    if config is not None:
        converted = _of_config(config, checkpoint, name)
        return EncoderSource(converted, folder_view(config), name, notes)
    if checkpoint is None:
        raise UserError("without a checkpoint there must be a config that builds the weights")
    converted = _encoder_alone(convert(read_source(checkpoint), format, arch))
    # The architecture's config says what the view depends on: size and channels.
    as_config = Config(dict(model=dict(backbone=_settings(converted))))
    settings = {**folder_view(as_config).settings(), **window_setting(converted.window)}
    return EncoderSource(converted, EvalCrop(**settings), name, notes)


def frozen_encoder(
    converted: Converted,
    name: str,
    device: torch.device | str | None = None,
    amp: bool = False,
) -> FrozenEncoder:
    """Build an encoder from its canonical form.

    Args:
        converted: Trunk and normalisation.
        name: Where they came from, for an error.
        device: Where to compute; default: the first GPU if there is one.
        amp: Compute in bfloat16 where that is safe.

    Raises:
        UserError: The weights do not fit.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        trunk = load_trunk(converted, name).to(place)
    pixels = pixel_scale(converted.mean, converted.std)
    normalise = MultiViewPreprocessor(pixels["mean"], pixels["std"]).to(place)
    return FrozenEncoder(trunk, normalise, device=place, amp=amp, is_owner=True)


def _encoder_alone(converted: Converted) -> Converted:
    return dataclasses.replace(
        converted, classifier={}, extras={}, settings={}, ignored=[], missing=[]
    )


def _settings(converted: Converted) -> dict[str, Any]:
    config = getattr(converted.architecture, "config", None)
    if config is None:
        raise UserError(
            f"a classifier's file holds ViTs and ResNets, not a {converted.architecture.describe()}"
        )
    return config()


def _of_config(config: Config, checkpoint: str | Path | None, name: str) -> Converted:
    """Bring the trunk that a config builds into canonical form, and compare the two."""
    encoder = build_encoder(config, checkpoint, device="cpu")
    trunk, about = encoder.trunk, encoder.description()
    if about["channels"] != "RGB":
        raise UserError(
            f"the model of {name} reads its channels in the order BGR, which a classifier's file "
            "does not hold; give the checkpoint without --config"
        )
    model = config["model"]
    backbone = dict(model.get("backbone", model))
    if isinstance(trunk, MaskedViT):
        backbone |= {"type": "MaskedViT", "resampling": trunk.resampling}
    if isinstance(trunk, MaskedViT | PlainResNet):
        told = {"backbone": backbone, "mean": about["mean"], "std": about["std"]}
        state = {f"backbone.{key}": value for key, value in trunk.state_dict().items()}
        metadata = {METADATA: {METADATA_KEY: json.dumps(told)}}
        raw = RawCheckpoint(name, state, metadata)
    else:
        raw = RawCheckpoint(name, trunk.state_dict())
    kind = type(trunk).__name__
    try:
        converted = convert(raw)
        copy = load_trunk(converted, name)
    except UserError as error:
        raise UserError(_CANNOT_HOLD.format(kind=kind)) from error
    _compare(trunk, copy, folder_view(config), encoder.in_channels, kind)
    mean, std, window = tuple(about["mean"]), tuple(about["std"]), folder_view(config).window
    return dataclasses.replace(_encoder_alone(converted), mean=mean, std=std, window=window)


@torch.no_grad()
def _compare(trunk: nn.Module, copy: nn.Module, view: EvalCrop, channels: int, kind: str) -> None:
    side = view.crop or view.resize or 224
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, side, side, generator=generator)
    wanted, got = represent(trunk, images), represent(copy, images)
    if wanted.shape == got.shape:
        difference = float((wanted - got).abs().max() / wanted.abs().max())
        if difference <= _TOLERANCE:
            return
    raise UserError(_CANNOT_HOLD.format(kind=kind))
