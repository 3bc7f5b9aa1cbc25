"""Masked autoencoders: rebuild the pixels of the patches that were dropped (arXiv 2111.06377).

Legend: B images, V views an image, C channels, S side, N patches of a view,
M kept ones, D encoder's width, I numbers in a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.methods.base import PretrainingMethod, Views, ViewUse
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.masking import is_dropped, num_kept, random_keep, restoring_order
from msn_mm.models.ops.micro_batch import MicroBatch, check_micro_batch
from msn_mm.models.ops.vit_start import fix_positions_, start_linear_, start_patches_
from msn_mm.registry import MODELS
from msn_mm.utils.vit_cost import ViTShape


@MODELS.register_module()
class MAE(PretrainingMethod):
    """Encode the kept patches of a view, decode the pixels of the others.

    The encoder is the ViT that MSN trains; it sees kept patches alone, after
    random masks that are functions of the views' keys. Decoder and head are
    mmpretrain's; the sizes that follow from the encoder are filled in. Encoder
    and decoder start as published (:mod:`msn_mm.models.ops.vit_start`).

    The images of a batch do not meet in the model, so a batch in parts, or over
    several processes, is the same training.

    Args:
        backbone: Config of a :class:`~msn_mm.models.MaskedViT`.
        decoder: Config of the decoder (``MAEPretrainDecoder``).
        head: Config of the target and the loss (``MAEPretrainHead``).
        mask_ratio: Share of patches to drop.
        fixed_positions: Sine-cosine positions that are not trained, as
            published; else the ViT's own, trained as in MSN.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through both networks at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If the backbone cannot drop patches or has them in no square grid of
            squares, a width does not suit fixed positions, or the mask leaves nothing
            to rebuild.
    """

    couples_images = False

    def __init__(
        self,
        backbone: dict,
        decoder: dict,
        head: dict,
        mask_ratio: float = 0.75,
        fixed_positions: bool = True,
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(data_preprocessor, micro_batch)
        self.backbone = MODELS.build(backbone)
        if not isinstance(self.backbone, MaskedViT):
            raise UserError(
                f"backbone {type(self.backbone).__name__} cannot drop patches; MAE needs "
                "type='MaskedViT' (any timm ViT by name)"
            )
        check_micro_batch(micro_batch, self.backbone)
        patch, (rows, columns) = self.backbone.patch_size[0], self.backbone.grid
        if self.backbone.patch_size != (patch, patch) or rows != columns:
            height, width = self.backbone.patch_size
            raise UserError(
                f"MAE's decoder rebuilds square images of square patches, and the backbone has "
                f"{rows} x {columns} patches of {height} x {width} pixels; give img_size and "
                "patch_size as one number each"
            )
        if not 0.0 <= mask_ratio < 1.0 or num_kept(rows * columns, mask_ratio) == rows * columns:
            raise UserError(
                f"model.mask_ratio is {mask_ratio}; of {rows * columns} patches it must drop some "
                "and leave some"
            )
        self.mask_ratio = mask_ratio
        self.side = patch * rows
        if fixed_positions:
            fix_positions_(self.backbone.vit.pos_embed, self.backbone.grid)
        self.decoder = MODELS.build(
            {
                "num_patches": rows * columns,
                "patch_size": patch,
                "in_chans": self.backbone.in_chans,
                "embed_dim": self.backbone.embed_dim,
                **decoder,
            }
        )
        self.head = MODELS.build(
            {"patch_size": patch, "in_channels": self.backbone.in_chans, **head}
        )
        # mmpretrain leaves both at 0 until a runner asks for a start.
        fix_positions_(self.decoder.decoder_pos_embed, self.backbone.grid)
        torch.nn.init.normal_(self.decoder.mask_token, std=0.02)
        for part in (self.backbone, self.decoder):
            start_linear_(part)
        start_patches_(self.backbone)
        assert self.backbone.vit.cls_token is not None  # checked by the backbone
        torch.nn.init.normal_(self.backbone.vit.cls_token, std=0.02)

    def init_weights(self) -> None:
        """Do nothing: the weights are as they should start when the model is built."""

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        return ViewUse(mask_ratio=self.mask_ratio, all_tokens=True)

    def hidden_patches(self, name: str, view: dict[str, Tensor]) -> Tensor | None:
        """Tell which patches of each view the encoder does not see."""
        rows, columns = self.backbone.grid
        keep = random_keep(len(view["key"]), rows * columns, self.mask_ratio, keys=view["key"])
        return is_dropped(keep, rows * columns).unflatten(1, (rows, columns))

    @property
    def decoder_shape(self) -> ViTShape:
        """Sizes of the decoder, for predictions of cost."""
        block = self.decoder.decoder_blocks[0]
        predicted, width = self.decoder.decoder_pred.weight.shape
        return ViTShape(
            width=width,
            hidden=block.ffn.layers[0][0].out_features,
            depth=len(self.decoder.decoder_blocks),
            patch_numbers=predicted,
        )

    def rebuild(self, images: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Drop patches of images and predict the pixels of all patches from the others.

        Args:
            images: ``(B, C, S, S)``, normalised.
            keys: ``(B,)`` int64; the masks are functions of the keys.

        Returns:
            CLS tokens ``(B, D)`` after the final norm; predictions ``(B, N, I)``;
            which patches were dropped, ``(B, N)`` of 0 and 1.

        Raises:
            UserError: If the images have another side than the encoder's positions.
        """
        if images.shape[-2:] != (self.side, self.side):
            raise UserError(
                f"MAE's decoder has positions for views of {self.side} x {self.side} pixels, and "
                f"these have {images.shape[-2]} x {images.shape[-1]}; make backbone.img_size and "
                "the size of the view equal, a multiple of the patch size"
            )
        patches = self.backbone.grid[0] * self.backbone.grid[1]
        keep = random_keep(len(images), patches, self.mask_ratio, keys=keys)
        order = restoring_order(keep, patches)

        def networks(
            images: Tensor, keep: Tensor, keys: Tensor, order: Tensor
        ) -> tuple[Tensor, Tensor]:
            cls, tokens = self.backbone.forward_intermediates(images, keep=keep, keys=keys)[0]
            return cls, self.decoder(torch.cat([cls.unsqueeze(1), tokens], dim=1), order)

        cls, predictions = self.in_pieces(networks, images, keep, keys, order)
        return cls, predictions, (order >= keep.shape[1]).float()

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the mean squared error of the dropped patches' pixels.

        Raises:
            UserError: If the data gives several groups of views, or views of
                another size.
        """
        if len(inputs) != 1:
            raise UserError(f"MAE needs one group of views; the data gives {sorted(inputs)}")
        (view,) = inputs.values()
        images = view["images"]
        cls, predictions, dropped = self.rebuild(images, view["key"])
        # The targets are normalised by a patch's deviation, which half precision
        # would round to 0.
        with torch.autocast(images.device.type, enabled=False):
            loss = self.head.loss(predictions.to(images.dtype), images, dropped)
        self.diagnostics = {"representations": cls.detach()}
        self.magnitudes = {
            "the views": magnitude(images),
            "the encoder's representations": magnitude(cls),
            "the decoder's predictions": magnitude(predictions),
        }
        return {"loss_mae": loss}
