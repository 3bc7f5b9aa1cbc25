"""SimCLR: assembly of a network, a projector and a contrastive loss (arXiv 2002.05709).

Legend: B images, D representation width, P projection width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msn_mm.models.heads.necks import build_neck, project, width_of
from msn_mm.models.losses.nt_xent import pair_similarities
from msn_mm.models.methods.base import PretrainingMethod, Views
from msn_mm.models.methods.two_views import two_views
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.micro_batch import MicroBatch, check_micro_batch
from msn_mm.models.readout import encode_whole
from msn_mm.registry import MODELS, SCOPE


@MODELS.register_module()
class SimCLR(PretrainingMethod):
    """Find the other view of an image among all views of all ranks.

    The projector and the loss are mmpretrain's. Its own model is not used: there the
    gradient on W ranks is a W-th of that of one rank on the joint batch. Both views
    go through the network as one batch, so batch norm sees them together.

    The network itself is evaluated; there is no other.

    Args:
        backbone: Config of a backbone with ``embed_dim``.
        neck: Config of the projector; its input width follows the backbone.
        head: Config of the loss: ``ContrastiveHead``.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If neck and backbone do not fit; in training, if there are not
            two views of each image.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any],
        head: Mapping[str, Any],
        data_preprocessor: dict | None = None,
        micro_batch: MicroBatch = None,
    ) -> None:
        super().__init__(data_preprocessor, micro_batch)
        self.backbone = MODELS.build(backbone)
        check_micro_batch(micro_batch, self.backbone)
        self.neck = build_neck(neck, width_of(self.backbone))
        self.head = MODELS.build({**head, "_scope_": SCOPE})

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the loss of a training batch, and statistics for the log."""
        pair = two_views(inputs, type(self).__name__)
        images, keys = (torch.cat([view[k] for view in pair]) for k in ("images", "key"))
        representations = self.in_pieces(partial(encode_whole, self.backbone), images, keys)
        projections = project(self.neck, representations)
        with torch.autocast(projections.device.type, enabled=False):
            partner, others = pair_similarities(projections)
            loss = self.head.loss(partner, others)
        self.diagnostics = {"representations": representations.detach()[: len(pair[0]["key"])]}
        self.magnitudes = {
            "the views": magnitude(images),
            "the representations": magnitude(representations),
            "the projections": magnitude(projections),
        }
        return {
            "loss_nt_xent": loss,
            "contrast_accuracy": _share(partner.detach() > others.detach().amax(1, keepdim=True)),
            "partner_similarity": partner.detach().mean(),
        }


def _share(condition: Tensor) -> Tensor:
    return condition.float().mean()
