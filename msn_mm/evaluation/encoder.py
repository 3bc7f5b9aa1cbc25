"""A frozen trunk that turns uint8 images into features, whatever it was built from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, is_model_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

import msn_mm
from msn_mm.convert.published import load_published
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import load_trunk_weights
from msn_mm.evaluation.fingerprint import fingerprint
from msn_mm.evaluation.normalisation import normalisation_of, pixel_scale, wants_bgr
from msn_mm.models.classifiers.last_block import trunk_with_blocks
from msn_mm.models.ops.fixed_batch import CPU_BATCH, in_fixed_batches
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor
from msn_mm.models.readout import ReadOut, can_mask, check_readout, represent, trunk_of
from msn_mm.registry import MODELS, SCOPE

__all__ = ["FrozenEncoder", "ReadOut", "build_encoder", "encoder_of"]

Read = Callable[[Tensor, "Tensor | None"], Tensor]
"""From normalised images and their keys to what is wanted of the trunk."""


class FrozenEncoder:
    """Images in, features out; weights, modes and gradients stay as they are.

    Args:
        trunk: The backbone; it stays where it is and is neither copied nor changed.
        normalise: Turns ``{"inputs": uint8 (B, C, H, W), "data_samples": {}}``
            into normalised float32 inputs on the trunk's device.
        readout: Which of its tensors is the representation.
        device: Where the trunk computes.
        amp: Compute in bfloat16 where that is safe (autocast).
        is_owner: Nothing else changes the trunk's weights, so that their
            fingerprint is taken once.
        is_bgr: The trunk takes its channels in the order BGR.

    Attributes:
        in_channels: C.
        width: D, or ``None`` until the first images have told it.

    Raises:
        UserError: The trunk cannot give this read-out.
    """

    def __init__(
        self,
        trunk: nn.Module,
        normalise: MultiViewPreprocessor,
        readout: ReadOut = ReadOut(),  # noqa: B008 (frozen)
        device: torch.device | None = None,
        amp: bool = False,
        is_owner: bool = False,
        is_bgr: bool = False,
    ) -> None:
        check_readout(trunk, readout)
        self.trunk = trunk
        self.readout = readout
        self.device = device or _device_of(trunk)
        self.amp = amp
        self.in_channels: int = normalise.mean.shape[1]
        embed_dim = getattr(trunk, "embed_dim", None)
        self.width: int | None = (
            (readout.blocks + readout.average) * embed_dim
            if can_mask(trunk) and embed_dim
            else None
        )
        self._normalise = normalise
        self._is_owner = is_owner
        self._is_bgr = is_bgr
        self._fingerprint: str | None = None

    @property
    def can_mask(self) -> bool:
        """Whether the trunk can drop patches."""
        return can_mask(self.trunk)

    @torch.inference_mode()
    def __call__(
        self, images: Tensor, mask_ratio: float = 0.0, keys: Tensor | None = None
    ) -> Tensor:
        """Encode images.

        On a CPU without ``amp`` a row depends on its image (and key) alone, not
        on how many others came with it.

        Args:
            images: uint8 ``(B, C, H, W)`` on the host.
            mask_ratio: Share of patches to drop.
            keys: ``(B,)`` int64; the masks are functions of them. They are a
                must with a mask: a feature never depends on torch's generator.

        Returns:
            float32 ``(B, D)`` on the encoder's device.

        Raises:
            UserError: The images do not fit the encoder, or it cannot mask.
            ValueError: A mask without keys.
        """
        if mask_ratio and keys is None:
            raise ValueError("mask_ratio without keys: one int64 an image")

        def read(inputs: Tensor, keys: Tensor | None) -> Tensor:
            return represent(self.trunk, inputs, self.readout, mask_ratio, keys)

        rows = self.apply(images, read, keys)
        self.width = rows.shape[1]
        return rows

    @torch.inference_mode()
    def tokens_before_last(self, images: Tensor) -> Tensor:
        """Return what the trunk's last block is given, independent of the batch as features are.

        Args:
            images: uint8 ``(B, C, H, W)`` on the host.

        Returns:
            float32 ``(B, T, D)`` on the encoder's device.

        Raises:
            UserError: The trunk has no blocks that could be taken apart, or the
                images do not fit it.
        """
        trunk = trunk_with_blocks(self.trunk)
        return self.apply(images, lambda inputs, _: trunk.tokens_before_last(inputs))

    @torch.inference_mode()
    def apply(self, images: Tensor, read: Read, keys: Tensor | None = None) -> Tensor:
        """Apply a function of normalised images, independent of the batch as features are.

        Args:
            images: uint8 ``(B, C, H, W)`` on the host.
            read: From normalised images ``(b, C, H, W)`` and their keys to ``(b, ...)``.
            keys: ``(B,)`` int64.

        Returns:
            float32 ``(B, ...)`` on the encoder's device.

        Raises:
            UserError: The images do not fit the encoder.
        """
        if images.shape[1] != self.in_channels:
            raise UserError(
                f"the images have {images.shape[1]} channel(s) and the encoder takes "
                f"{self.in_channels}; set channels of the view (EvalCrop) or in_chans of the model"
            )
        size = CPU_BATCH if self.device.type == "cpu" else max(1, len(images))
        with _in_eval_mode(self.trunk):
            return in_fixed_batches(partial(self._encode, read), size, images, keys)

    def _encode(self, read: Read, images: Tensor, keys: Tensor | None) -> Tensor:
        inputs = self._normalise({"inputs": images, "data_samples": {}})["inputs"]
        inputs = inputs.flip(1) if self._is_bgr else inputs
        keys = None if keys is None else keys.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            rows = read(inputs, keys)
        return rows.float()

    def fingerprint(self) -> str:
        """Return a hash of all that a feature depends on beside the image and its view.

        Weights, class and settings of the trunk, normalisation, read-out,
        precision, kind of device, and versions of the packages that compute.
        """
        if self._fingerprint is not None:
            return self._fingerprint
        found = fingerprint(self.trunk, self.description())
        if self._is_owner:
            self._fingerprint = found
        return found

    def description(self) -> dict[str, Any]:
        """Return what the encoder is, in words and numbers that a reader understands."""
        kind = type(self.trunk)
        return {
            "trunk": f"{kind.__module__}.{kind.__qualname__}",
            "parameters": sum(p.numel() for p in self.trunk.parameters()),
            "mean": self._normalise.mean.flatten().tolist(),
            "std": self._normalise.std.flatten().tolist(),
            "channels": "BGR" if self._is_bgr else "RGB",
            "blocks": self.readout.blocks,
            "norm": self.readout.norm,
            "average": self.readout.average,
            "precision": "bfloat16 autocast" if self.amp else "float32",
            "device": self.device.type,
            "versions": {
                "msn_mm": msn_mm.__version__,
                "torch": str(torch.__version__),
                "timm": timm.__version__,
                "mmpretrain": metadata.version("mmpretrain"),
                "mmengine": metadata.version("mmengine"),
            },
        }


def build_encoder(
    cfg: Config | Mapping[str, Any],
    checkpoint: str | Path | None,
    readout: ReadOut = ReadOut(),  # noqa: B008 (frozen)
    device: torch.device | str | None = None,
    amp: bool = False,
    seed: int = 0,
) -> FrozenEncoder:
    """Build the frozen encoder that a config and a checkpoint describe.

    Args:
        cfg: Its ``model`` is a method with a ``target_backbone`` or a
            ``backbone`` (MSN, any self-supervised method or classifier of
            mmpretrain), or a backbone of the registry by itself.
        checkpoint: Weights of the whole model, of its trunk under
            ``target_backbone.`` or ``backbone.``, or of the trunk alone; or a
            checkpoint of another format that is known, by file, directory or
            address. ``None``: weights as the config builds them, random or
            pre-trained, or the published ones that its ``checkpoint`` names.
        readout: Which tensor is the representation.
        device: Where to compute; default: the first GPU if there is one.
        amp: Compute in bfloat16 where that is safe.
        seed: Seed of random weights.

    Raises:
        UserError: A mistake in the config, or weights that do not fit.
    """
    if cfg.get("model") is None:
        name = getattr(cfg, "filename", None) or "the config"
        raise UserError(f"{name} has no model; give the config that the checkpoint came from")
    model = build_model(cfg["model"], seed, wants_weights=checkpoint is None)
    trunk = trunk_of(model)
    configured = cfg.get("data_preprocessor")
    if checkpoint is not None:
        converted = load_trunk_weights(trunk, checkpoint)
    else:
        published = cfg.get("checkpoint")
        converted = load_published(trunk, published) if published else None
    if converted is not None:
        configured = configured or pixel_scale(converted.mean, converted.std)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    normalise = normalisation_of(model, trunk, configured).to(place)
    trunk.to(place).requires_grad_(False)
    trunk.eval()  # some trunks of mmpretrain return nothing here
    return FrozenEncoder(
        trunk, normalise, readout, place, amp, is_owner=True, is_bgr=wants_bgr(model)
    )


def encoder_of(
    model: nn.Module,
    readout: ReadOut = ReadOut(),  # noqa: B008 (frozen)
    amp: bool = False,
    data_preprocessor: Mapping[str, Any] | None = None,
) -> FrozenEncoder:
    """Return the encoder inside a model that lives on: a training's, or one built by hand.

    It reads the model's weights at every call; the model is not copied, moved or changed.

    Args:
        model: As in :func:`build_encoder`, possibly in a distributed wrapper.
        readout: Which tensor is the representation.
        amp: Compute in bfloat16 where that is safe.
        data_preprocessor: ``mean`` and ``std`` for a model that has none of its own.
    """
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    trunk = trunk_of(inner)
    device = _device_of(trunk)
    normalise = normalisation_of(inner, trunk, data_preprocessor).to(device)
    return FrozenEncoder(trunk, normalise, readout, device, amp, is_bgr=wants_bgr(inner))


def build_model(model: Mapping[str, Any], seed: int, wants_weights: bool) -> nn.Module:
    logger = MMLogger.get_current_instance()
    level = logger.level
    try:
        # mmengine tells of every single parameter how it was initialised.
        logger.setLevel(logging.WARNING)
        with (
            torch.random.fork_rng(devices=[]),
            DefaultScope.overwrite_default_scope(SCOPE),
            config_mistakes(),
        ):
            # Not torch.manual_seed, which would seed the GPUs' generators too.
            torch.default_generator.manual_seed(seed)
            built = MODELS.build(dict(model))
            if wants_weights and isinstance(built, BaseModule):
                built.init_weights()
    finally:
        logger.setLevel(level)
    return built


def _device_of(module: nn.Module) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


@contextlib.contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode; each submodule gets back the mode it had."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
