"""Linear evaluation: linear classifiers trained on a frozen trunk (appendix C.3).

Legend: B images, C classes, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.frozen_trunk import (
    as_bytes,
    as_text,
    build_frozen_encoder,
    encoder_config,
    trunk_digest,
)
from msn_mm.models.heads.linear_heads import PAPER, RELEASED, LinearHeads, head_grid, hits, needed
from msn_mm.models.readout import ReadOut, can_mask
from msn_mm.registry import MODELS


@MODELS.register_module()
class LinearProbe(BaseModel):
    """Train a grid of linear classifiers in one pass over the images.

    The trunk computes in inference mode and is no part of the model's state: a
    checkpoint holds the heads, what each is, and a digest of the trunk's weights, and
    goes on with no other heads or trunk. Each head minimises a loss of its own, so the
    heads learn what each would have learnt alone.

    Args:
        encoder: ``config`` (path or name of a config with a ``model``), its
            ``cfg_options``, and ``checkpoint``; or ``model`` and
            ``data_preprocessor`` themselves in place of a config. See
            :func:`msn_mm.evaluation.encoder.build_encoder`.
        num_classes: C.
        features: What heads read, ``cls1``, ``cls4``, ``cls1+avg``, ...: CLS tokens of
            the last blocks before the final norm, and the mean of the patch tokens.
        lr_scales: Learning rates of heads, over that of the optimizer. Features
            and rates make a grid; the paper's and the released code's settings
            are always there.
        layer_norms: Without or with a layer norm before the L2 normalisation, or both.
        norm: Tokens after the trunk's final norm.
        amp: bfloat16 autocast for trunk and heads; ``None``: on a GPU.
        image_size: Side in pixels of the images; a trunk whose width is not known
            is asked with one of them.

    Raises:
        UserError: Encoder, checkpoint and features do not fit each other.
        ValueError: A feature's name or a number is impossible.
    """

    # What a head learns from a batch is a mean over its images: a batch in
    # several parts is the same training.
    couples_images = False

    def __init__(
        self,
        encoder: Mapping[str, Any],
        num_classes: int,
        features: Sequence[str] = ("cls1", "cls4", "cls1+avg", "cls4+avg"),
        lr_scales: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
        layer_norms: Sequence[bool] = (False,),
        norm: bool = False,
        amp: bool | None = None,
        image_size: int = 224,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, not {num_classes}")
        heads = head_grid(features, lr_scales, layer_norms)
        blocks, average = needed(heads)
        cfg, checkpoint = encoder_config(encoder)
        amp = torch.cuda.is_available() if amp is None else amp
        # Behind a tuple: neither a part of the state nor wrapped, moved or trained.
        self._frozen = (build_frozen_encoder(cfg, checkpoint, ReadOut(blocks, norm, average), amp),)
        self.num_classes = num_classes
        # A trunk without blocks to choose from has one output, of any width.
        parts = blocks + average if can_mask(self.encoder.trunk) else 1
        self.heads = LinearHeads(heads, self._width(image_size) // parts, num_classes)
        self.register_buffer("trunk_digest", trunk_digest(self.encoder.trunk))
        # Weights alone do not tell what they read and how fast they learnt.
        self._head_list = "\n".join(head.name for head in heads)
        self.register_buffer("head_list", as_bytes(self._head_list))

    @property
    def encoder(self) -> Any:
        """The frozen encoder."""
        return self._frozen[0]

    @property
    def head_names(self) -> tuple[str, ...]:
        """What each head is called, the paper's first and the released code's second."""
        told = {PAPER: " (paper)", RELEASED: " (released)"}
        return tuple(head.name + told.get(head, "") for head in self.heads.heads)

    def forward(
        self, inputs: Tensor, data_samples: dict[str, Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model.

        Args:
            inputs: uint8 ``(B, C, S, S)``.
            data_samples: ``label`` int64 ``(B,)``; ``support`` bool ``(B,)`` of images
                that are there to choose a head by, where there are such.
            mode: ``"loss"``: dict of losses; ``"tensor"``: ``(B, C)`` logits of each
                head; ``"predict"``: for each image a dict with ``hits`` bool (H, 1 or
                2) on the host, ``support``, and the ``heads``' names.
        """
        if mode not in ("loss", "tensor", "predict"):
            raise ValueError(f"mode is '{mode}'; it must be 'loss', 'tensor' or 'predict'")
        rows = self.encoder(inputs)
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=self.encoder.amp):
            # A copy: what was made in inference mode cannot be learnt from.
            logits = self.heads(rows.clone())
        if mode == "tensor":
            return logits
        samples = data_samples or {}
        labels = samples["label"]
        if mode == "loss":
            losses = torch.stack([F.cross_entropy(each, labels) for each in logits])
            best = losses.detach().min()
            return {"loss": losses.sum(), "paper_ce": losses[0].detach(), "lowest_ce": best}
        right = hits(logits, labels).cpu()
        support = samples.get("support")
        roles = [False] * len(right) if support is None else [bool(one) for one in support]
        names = self.head_names
        return [
            {"hits": one, "support": role, "heads": names}
            for one, role in zip(right, roles, strict=True)
        ]

    def _width(self, image_size: int) -> int:
        if self.encoder.width is None:
            side = (1, self.encoder.in_channels, image_size, image_size)
            self.encoder(torch.zeros(side, dtype=torch.uint8))
        return int(self.encoder.width)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> Any:
        saved = state_dict.get(f"{prefix}trunk_digest")
        if saved is not None and not torch.equal(saved.cpu(), self.trunk_digest.cpu()):
            raise UserError(
                "the checkpoint's heads were trained on another trunk: give model.encoder the "
                "config and checkpoint that they were trained with"
            )
        listed = state_dict.get(f"{prefix}head_list")
        if listed is not None:
            self._check_heads(as_text(listed).split("\n"))
        return super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _check_heads(self, saved: list[str]) -> None:
        own = self._head_list.split("\n")
        if saved == own:
            return
        odd = next((name for name in saved if name not in own), None)
        told = f"'{odd}' is not among this run's" if odd else f"they are {len(saved)} of {len(own)}"
        if odd is None and len(saved) == len(own):
            told = "they come in another order"
        raise UserError(
            f"the checkpoint's heads are others ({told}): resume with the features, lr_scales and "
            "layer_norms that they were trained with, or leave --resume out"
        )
