"""The UNet of ADM, conditioned on a representation.

Legend: B images, C channels, S side, D width of the representation.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from msn_mm.diffusion.conditional_norm import Condition, WidenedTime, condition_blocks
from msn_mm.diffusion.library import diffusers
from msn_mm.errors import UserError


class RepresentationUNet(nn.Module):
    """Predict the noise in an image from the image, the step and a representation.

    ``UNet2DModel`` of ``diffusers`` with ADM's choices (Dhariwal and Nichol 2021, arXiv
    2105.05233): the step scales and shifts behind each block's second norm, residual
    blocks resample, and deep levels attend. The representation enters every residual
    block by conditional normalisation (:mod:`msn_mm.diffusion.conditional_norm`).

    Args:
        representation_width: D.
        image_size: S.
        image_channels: C.
        channels: Channels of each level; each but the last halves the side.
        attention: Whether each level attends.
        layers: Residual blocks a level on the way down; one more on the way up.
        head_dim: Channels an attention head.
        groups: Groups of the norms.
        condition_width: Width of the linear map of the representation (RCDM: 512).
        learned_variance: Predict the variance too.
        gradient_checkpointing: Keep no activations of blocks; compute them again.

    Raises:
        UserError: Sizes that do not go together.
    """

    def __init__(
        self,
        representation_width: int,
        image_size: int,
        image_channels: int,
        channels: Sequence[int],
        attention: Sequence[bool],
        layers: int = 2,
        head_dim: int = 64,
        groups: int = 32,
        condition_width: int = 512,
        learned_variance: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(image_size, channels, attention, head_dim, groups)
        library = diffusers()
        down = [
            "AttnDownBlock2D" if attends else "ResnetDownsampleBlock2D" for attends in attention
        ]
        up = ["AttnUpBlock2D" if attends else "ResnetUpsampleBlock2D" for attends in attention]
        self.representation_width = representation_width
        self.network = library.UNet2DModel(
            sample_size=image_size,
            in_channels=image_channels,
            out_channels=image_channels * (2 if learned_variance else 1),
            down_block_types=down,
            up_block_types=up,
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            downsample_type="resnet",
            upsample_type="resnet",
            attention_head_dim=head_dim,
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            resnet_time_scale_shift="scale_shift",
        )
        time_width = 4 * channels[0]
        block = library.models.resnet.ResnetBlock2D
        self.num_blocks = condition_blocks(self.network, block, time_width, condition_width)
        self.network.time_embedding = WidenedTime(self.network.time_embedding, condition_width)
        self.network.class_embedding = Condition(representation_width, time_width, condition_width)
        # The first prediction is 0 everywhere, as ADM's.
        nn.init.zeros_(self.network.conv_out.weight)
        nn.init.zeros_(self.network.conv_out.bias)
        if gradient_checkpointing:
            self.network.enable_gradient_checkpointing()

    def forward(self, noisy: Tensor, steps: Tensor, representations: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            noisy: ``(B, C, S, S)``.
            steps: ``(B,)`` int64, from 0.
            representations: ``(B, D)``.

        Returns:
            ``(B, C, S, S)``, or ``(B, 2C, S, S)`` with the variance behind.

        Raises:
            UserError: Representations of another width.
        """
        if representations.shape[1] != self.representation_width:
            raise UserError(
                f"the encoder's representation has {representations.shape[1]} numbers and this "
                f"RCDM was trained with {self.representation_width}; give the encoder that it was "
                "trained with"
            )
        return self.network(noisy, steps, class_labels=representations).sample


def _check(
    size: int, channels: Sequence[int], attention: Sequence[bool], head_dim: int, groups: int
) -> None:
    if not channels or len(channels) != len(attention):
        raise UserError(
            f"model.unet: channels has {len(channels)} levels and attention {len(attention)}; "
            "give both one value a level"
        )
    if size % 2 ** (len(channels) - 1):
        raise UserError(
            f"model.image_size is {size}, which {len(channels) - 1} halvings do not divide; "
            "change it or the number of levels in model.unet.channels"
        )
    for width, attends in zip(channels, attention, strict=True):
        if width % groups:
            raise UserError(f"model.unet: {groups} groups do not divide {width} channels")
        if attends and width % head_dim:
            raise UserError(f"model.unet: head_dim {head_dim} does not divide {width} channels")
