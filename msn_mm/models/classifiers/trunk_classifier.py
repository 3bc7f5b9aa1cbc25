"""A trunk and a classification head, trained together.

Legend: B images, C channels, S side, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from msn_mm.errors import UserError
from msn_mm.models.classifiers.last_block import freeze_before_last_
from msn_mm.models.ops.micro_batch import MicroBatch, check_micro_batch, in_pieces
from msn_mm.models.readout import encode_whole
from msn_mm.registry import MODELS


@MODELS.register_module()
class TrunkClassifier(BaseModel):
    """Any backbone under one of mmpretrain's classification heads.

    It differs from mmpretrain's ``ImageClassifier`` in what it reads of a batch: that of
    :func:`~msn_mm.datasets.labelled_collate`, whose keys decide stochastic depth. What
    the head reads of the trunk is :func:`~msn_mm.models.readout.encode_whole`.

    Args:
        backbone: Config of the trunk.
        head: Config of a head of mmpretrain (``LinearClsHead``). Without an
            ``in_channels`` it takes the trunk's ``embed_dim``.
        data_preprocessor: Config of a :class:`~msn_mm.models.MixingPreprocessor`, which
            is told the head's number of classes.
        micro_batch: Images that go through the trunk at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.
        trained_blocks: Train so many last blocks of the trunk, its final norm and the
            head alone (partial fine-tuning); None trains all.

    Raises:
        UserError: If the head's ``in_channels`` is not the width of the trunk, neither
            says it, or the trunk has not so many blocks or cannot run in micro-batches.
    """

    # Other labels want another way: moments of an earlier training are not taken over.
    fresh_optimizer = True

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
        micro_batch: MicroBatch = None,
        trained_blocks: int | None = None,
    ) -> None:
        if isinstance(data_preprocessor, Mapping):
            classes = {"num_classes": head.get("num_classes")}
            known = classes if data_preprocessor.get("batch_augments") else {}
            # MMEngine would look for it in the scope that happens to be the current one.
            data_preprocessor = MODELS.build({**known, **data_preprocessor})
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.micro_batch = check_micro_batch(micro_batch, self.backbone)
        if trained_blocks is not None:
            freeze_before_last_(self.backbone, trained_blocks)
        width = getattr(self.backbone, "embed_dim", None)
        asked = head.get("in_channels", width)
        if asked is None:
            raise UserError(
                f"backbone {type(self.backbone).__name__} does not say its width; set "
                "model.head.in_channels"
            )
        if width is not None and asked != width:
            raise UserError(
                f"model.head.in_channels is {asked} and the backbone's width {width}; leave it out"
            )
        self.head = MODELS.build({**head, "in_channels": asked})

    def forward(
        self, inputs: Tensor, data_samples: dict[str, Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Classify images.

        Args:
            inputs: ``(B, C, S, S)``, normalised.
            data_samples: ``label`` ``(B,)`` for a loss and for predictions; for a
                loss also ``key`` ``(B,)``, and ``score`` ``(B, K)`` where images were mixed.
            mode: ``tensor``, ``loss`` or ``predict``.

        Returns:
            ``tensor``: logits ``(B, K)``. ``loss``: a dict of the loss. ``predict``: a
            dict an image as mmpretrain's metrics read them.

        Raises:
            ValueError: If the mode is none of these, or labels are missing.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"mode must be tensor, loss or predict, not '{mode}'")
        samples = data_samples or {}
        logits: Tensor = self.head((self.represent(inputs, samples.get("key")),))
        if mode == "tensor":
            return logits
        if "label" not in samples:
            raise ValueError(f"mode '{mode}' needs labels")
        # Softmax in half precision costs digits of a small loss.
        logits = logits.float()
        if mode == "loss":
            target = samples.get("score", samples["label"])
            return {"loss": self.head.loss_module(logits, target, avg_factor=len(logits))}
        scores = logits.softmax(dim=1)
        return [
            {"pred_score": score, "pred_label": score.argmax(0, keepdim=True), "gt_label": label}
            for score, label in zip(scores, samples["label"].view(-1, 1), strict=True)
        ]

    def represent(self, images: Tensor, keys: Tensor | None = None) -> Tensor:
        """``(B, C, S, S)``, normalised -> what the head reads, ``(B, D)``."""
        size = self.micro_batch if self.training else None
        return in_pieces(partial(encode_whole, self.backbone), size, images, keys)

    def get_layer_depth(self, name: str) -> tuple[int, int]:
        """Return a parameter's layer and the number of layers, as mmpretrain's classifiers do.

        Raises:
            UserError: If the backbone does not know its layers.
        """
        try:
            return self.backbone.get_layer_depth(name, "backbone.")
        except (AttributeError, NotImplementedError) as error:
            raise UserError(
                f"backbone {type(self.backbone).__name__} does not tell its layers, which "
                "layer-wise decay needs; take MaskedViT, or set "
                "optim_wrapper.paramwise_cfg.layer_decay_rate=1"
            ) from error
