"""RCDM: a diffusion model that draws images from a frozen encoder's representation of one.

Sources: Bordes et al. 2021 (arXiv 2112.09164); appendix H of arXiv 2204.07141.

Legend: B images, C channels, S side, D width of the representation.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from msn_mm.diffusion.conditioning_encoder import build_encoder, encoder_description
from msn_mm.diffusion.denoising_loss import denoising_losses
from msn_mm.diffusion.noise_schedule import NoiseSchedule
from msn_mm.diffusion.unet import RepresentationUNet
from msn_mm.errors import UserError
from msn_mm.models.frozen_trunk import (
    as_bytes,
    as_text,
    on_meta,
    trunk_digest,
)
from msn_mm.models.ops.counter_rng import normal, uniform
from msn_mm.models.readout import check_readout
from msn_mm.registry import MODELS
from msn_mm.utils.results import to_json

STEP_STREAM, NOISE_STREAM = 4, 5
_LEAST_DEVIATION = 1e-4


@MODELS.register_module()
class RCDM(BaseModel):
    """Learn to remove noise from images, told the representation of the image.

    The encoder is frozen and represents each image in the same pass that trains the
    UNet, whole or masked. Step, noise and mask of an image are functions of its view's
    key, so of (seed, epoch, index): any batch, number of processes or resumption gives
    the same training. A moving average of the UNet, kept by
    :class:`~msn_mm.engine.hooks.ema_hook.EMAHook`, draws the samples.

    The state holds all that sampling needs: both UNets, the encoder's weights
    (``backbone.``) and, as text, what builds it (``encoder_text``).

    Args:
        encoder: What :func:`~msn_mm.models.frozen_trunk.encoder_config` reads; further
            ``norm`` (the representation is the CLS token after the trunk's final norm;
            default), ``resampling`` (how the trunk's positions get to another grid) and
            ``source`` (words about where it came from).
        image_size: S of samples.
        encoder_size: Side of the images that the encoder sees; default: ``image_size``.
        unet: Arguments of :class:`~msn_mm.diffusion.unet.RepresentationUNet`.
        schedule: Arguments of :class:`~msn_mm.diffusion.noise_schedule.NoiseSchedule`.
        learned_variance: Learn the variance of a step (Nichol and Dhariwal 2021), else
            it is fixed.
        bound_weight: Weight of the variational bound that teaches the variance.
        mask_ratio: Share of patches that the encoder does not see in training.
        amp: bfloat16 autocast for the encoder; ``None``: on a GPU.
        gradient_checkpointing: Of the UNet.
        data_preprocessor: Config of the preprocessor; it must give images in [-1, 1].

    Raises:
        UserError: Encoder, sizes and mask do not fit each other, or diffusers is missing.
    """

    encoder_text: Tensor

    # A loss is a mean over images: a batch in several parts is the same training.
    couples_images = False

    def __init__(
        self,
        encoder: Mapping[str, Any],
        image_size: int,
        unet: Mapping[str, Any],
        encoder_size: int | None = None,
        schedule: Mapping[str, Any] | None = None,
        learned_variance: bool = True,
        bound_weight: float = 1e-3,
        mask_ratio: float = 0.0,
        amp: bool | None = None,
        gradient_checkpointing: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=None if data_preprocessor is None else MODELS.build(data_preprocessor)
        )
        self.schedule = NoiseSchedule(**(schedule or {}))
        self.image_size, self.encoder_size = image_size, encoder_size or image_size
        self.learned_variance, self.bound_weight = learned_variance, bound_weight
        self.mask_ratio = mask_ratio
        amp = torch.cuda.is_available() if amp is None else amp
        self._is_free = encoder.get("source") is not None or encoder.get("checkpoint") is None
        # Behind a tuple: the trunk below is the part that the state holds.
        self._frozen = (build_encoder(encoder, amp),)
        self.backbone: nn.Module = self.encoder.trunk.requires_grad_(False)
        check_readout(self.backbone, self.encoder.readout, mask_ratio)
        self.unet = RepresentationUNet(
            representation_width=self._width(),
            image_size=image_size,
            image_channels=self.encoder.in_channels,
            learned_variance=learned_variance,
            gradient_checkpointing=gradient_checkpointing,
            **unet,
        )
        self.ema_unet = copy.deepcopy(self.unet).requires_grad_(False)
        width = self.unet.representation_width
        self.register_buffer("representation_mean", torch.zeros(width))
        self.register_buffer("representation_deviation", torch.zeros(width))
        self._standardises = False
        self.register_buffer("trunk_digest", trunk_digest(self.backbone))
        about = {} if on_meta() else encoder_description(encoder, self.encoder)
        text = json.dumps(to_json(about))
        self.register_buffer("encoder_text", as_bytes(text))

    def init_weights(self) -> None:
        """Do nothing: the weights are as they should start when the model is built."""

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the networks and their moving averages."""
        return [(self.unet, self.ema_unet)]

    @property
    def encoder(self) -> Any:
        """The frozen encoder around ``backbone``."""
        return self._frozen[0]

    @property
    def encoder_source(self) -> dict[str, Any]:
        """Words about where the encoder came from: ``config`` and ``checkpoint``."""
        return dict(json.loads(as_text(self.encoder_text)).get("source") or {})

    @property
    def side(self) -> int:
        """Side of the images that training and sampling read: the larger of the two."""
        return max(self.image_size, self.encoder_size)

    def forward(
        self, inputs: Any, data_samples: dict[str, Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model.

        Args:
            inputs: In mode ``"loss"`` one group of views by name, a dict with ``images``
                ``(B, C, S, S)`` in [-1, 1] and ``key`` ``(B,)``; else images.
            data_samples: Not used.
            mode: ``"loss"``: dict of losses; ``"tensor"``: ``(B, D)`` representations.
        """
        if mode == "loss":
            return self.loss(inputs)
        if mode == "tensor":
            return self.represent(inputs)
        raise ValueError(f"mode is '{mode}'; it must be 'loss' or 'tensor'")

    def represent(
        self, images: Tensor, mask_ratio: float = 0.0, keys: Tensor | None = None
    ) -> Tensor:
        """Represent images by the frozen encoder, each number brought to one scale.

        Args:
            images: ``(B, C, H, W)`` in [-1, 1].
            mask_ratio: Share of patches to drop.
            keys: ``(B,)`` int64, of which the masks are functions; a must with a mask.

        Returns:
            ``(B, D)`` float32, without gradients.
        """
        pixels = resized((images + 1.0) * 127.5, self.encoder_size)
        # A copy: what was made in inference mode cannot be learnt from.
        rows = self.encoder(pixels, mask_ratio, keys).clone()
        if not self.has_statistics:
            return rows
        return (rows - self.representation_mean) / self.representation_deviation

    @property
    def has_statistics(self) -> bool:
        """Whether representations are brought to mean 0 and deviation 1."""
        return self._standardises

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Standardise representations from now on.

        Args:
            mean: ``(D,)``.
            deviation: ``(D,)``; where a number hardly varies it is left as it is.
        """
        varies = deviation > _LEAST_DEVIATION * deviation.max()
        self.representation_mean.copy_(mean)
        self.representation_deviation.copy_(torch.where(varies, deviation, 1.0))
        self._standardises = True

    def loss(self, inputs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the denoising losses of a batch.

        Raises:
            UserError: The data gives several groups of views.
        """
        if len(inputs) != 1:
            raise UserError(f"RCDM needs one group of views; the data gives {sorted(inputs)}")
        (view,) = inputs.values()
        keys = view["key"]
        representations = self.represent(view["images"], self.mask_ratio, keys)
        clean = resized(view["images"], self.image_size)
        count = self.schedule.num_steps
        # A number next to 1 may round up to the number of steps.
        steps = (uniform(keys, STEP_STREAM, 1)[:, 0] * count).long().clamp_max(count - 1)
        noise = normal(keys, NOISE_STREAM, clean[0].numel()).view_as(clean)
        noisy = self.schedule.add_noise(clean, noise, steps)
        output = self.unet(noisy, steps, representations)
        with torch.autocast(clean.device.type, enabled=False):
            return denoising_losses(
                output, noise, clean, noisy, self.schedule, steps, self.bound_weight
            )

    def _width(self) -> int:
        if self.encoder.width is None:
            side = self.encoder_size
            self.encoder(torch.zeros((1, self.encoder.in_channels, side, side), dtype=torch.uint8))
        return int(self.encoder.width)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> Any:
        saved = state_dict.get(f"{prefix}trunk_digest")
        if (
            saved is not None
            and not self._is_free
            and not torch.equal(saved.cpu(), self.trunk_digest.cpu())
        ):
            raise UserError(
                "the checkpoint's RCDM was trained with another encoder: give --backbone (and "
                "--backbone-config) what it was trained with"
            )
        deviation = state_dict.get(f"{prefix}representation_deviation")
        self._standardises = deviation is not None and bool((deviation > 0).all())
        text = state_dict.get(f"{prefix}encoder_text")
        if text is not None:
            # Words of another length are no misfit.
            self.encoder_text = text.to(self.encoder_text.device).clone()
        return super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def resized(images: Tensor, side: int) -> Tensor:
    """Resample square images ``(B, C, H, H)`` to a side, antialiased."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
