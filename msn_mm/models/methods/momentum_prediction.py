"""Methods that predict, from one view, what a moving average makes of the other: BYOL, MoCo v3.

Legend: B images, D representation width, P projection width.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.models.heads.necks import build_neck, project, width_of
from msn_mm.models.methods.base import PretrainingMethod, Views, ViewUse
from msn_mm.models.methods.two_views import View, two_views
from msn_mm.models.ops.finite import magnitude
from msn_mm.models.ops.micro_batch import MicroBatch, check_micro_batch
from msn_mm.models.ops.precision import exact
from msn_mm.models.ops.stochastic_depth import without_stochastic_depth_
from msn_mm.models.readout import encode_whole
from msn_mm.registry import MODELS, SCOPE


class MomentumPrediction(PretrainingMethod):
    """A network with projector and predictor, and a moving average without predictor.

    Projector, predictor and loss are mmpretrain's. Its own models are not used: there
    the moving average moves in the forward pass, before the step and in each
    part of a batch. Each view goes through each network as a batch of its own, as in
    the authors' code; the moving average's batch norm normalises by its batch and
    keeps running statistics of its own.

    Stochastic depth, where the backbone has it, is the trained network's alone.

    The trained network is evaluated; the moving average is ``momentum_backbone``.

    Args:
        backbone: Config of a backbone with ``embed_dim``.
        neck: Config of the projector; its input width follows the backbone.
        head: Config of predictor and loss; the predictor's input width follows the
            projector.
        data_preprocessor: Config of the preprocessor.
        micro_batch: Views that go through a network at once, as for
            :class:`~msn_mm.models.methods.base.PretrainingMethod`.

    Raises:
        UserError: If the parts do not fit; in training, if there are not two views
            of each image.
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
        predictor = {"in_channels": neck["out_channels"], **head["predictor"]}
        self.head = MODELS.build({**head, "predictor": predictor, "_scope_": SCOPE})
        self.momentum_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        without_stochastic_depth_(self.momentum_backbone)
        self.momentum_neck = copy.deepcopy(self.neck).requires_grad_(False)

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(source, target) modules whose parameters follow by moving average."""
        return [(self.backbone, self.momentum_backbone), (self.neck, self.momentum_neck)]

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        return ViewUse(trained=True, target=True)

    @abstractmethod
    def compare(
        self, predictions: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses, and statistics for the log, in full precision.

        Args:
            predictions: ``(B, P)`` from each view.
            targets: ``(B, P)`` for each of them, of the other view, without gradients.
        """

    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the losses of a training batch, and statistics for the log."""
        pair = two_views(inputs, type(self).__name__)
        with torch.no_grad():
            targets = [self._encode(v, self.momentum_backbone, self.momentum_neck)[1] for v in pair]
        encoded = [self._encode(view, self.backbone, self.neck) for view in pair]
        predictions = [project(self.head.predictor, projection) for _, projection in encoded]
        with torch.autocast(predictions[0].device.type, enabled=False):
            losses = self.compare(
                [exact(prediction) for prediction in predictions],
                [exact(target) for target in reversed(targets)],
            )
        representations = [z for z, _ in encoded]
        self.diagnostics = {"representations": representations[0].detach()}
        self.magnitudes = {
            "the views": magnitude(*(view["images"] for view in pair)),
            "the targets": magnitude(*targets),
            "the representations": magnitude(*representations),
            "the projections": magnitude(*(projection for _, projection in encoded)),
            "the predictions": magnitude(*predictions),
        }
        return losses

    def _encode(self, view: View, backbone: nn.Module, neck: nn.Module) -> tuple[Tensor, Tensor]:
        """One view -> representations ``(B, D)`` and projections ``(B, P)``."""
        z = self.in_pieces(partial(encode_whole, backbone), view["images"], view["key"])
        return z, project(neck, z)
