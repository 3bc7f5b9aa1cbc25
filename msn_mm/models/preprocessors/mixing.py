"""Normalisation, and in training the mixing of images and of their labels.

Shapes: B images, C channels, S side, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from msn_mm.datasets.keyed_random import keyed_random
from msn_mm.datasets.keys import SampleKey
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor
from msn_mm.registry import MODELS


@MODELS.register_module()
class MixingPreprocessor(MultiViewPreprocessor):
    """Prepare labelled images, in training mixed by mmpretrain's ``Mixup`` and ``CutMix``.

    For each batch one of the augmentations is drawn. Those draw from global
    generators; here all they draw follows from the key of the batch's first
    image, so a resumed run mixes what the first would have. Each process mixes
    the images that it has.

    Args:
        mean: C means, on the scale 0-255.
        std: C standard deviations, on the scale 0-255.
        batch_augments: As in mmpretrain: ``augments``, configs of batch augmentations,
            and ``probs``, a probability each (default: alike). ``None`` mixes nothing.
        num_classes: K; needed to mix.
        non_blocking: Copy to the device without waiting.

    Raises:
        ValueError: If images are to be mixed and ``num_classes`` is missing.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        batch_augments: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(mean, std, non_blocking)
        self.num_classes = num_classes or 0
        self.batch_augments = None
        if batch_augments is not None:
            if num_classes is None:
                raise ValueError("MixingPreprocessor: num_classes is needed to mix labels")
            # Here, because it brings all of mmpretrain's models along.
            from mmpretrain.models.utils.batch_augments import RandomBatchAugment

            self.batch_augments = RandomBatchAugment(**batch_augments)

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: As :func:`msn_mm.datasets.labelled_collate` gives it.
            training: Whether to mix.

        Returns:
            The same batch on the device, images float32 and normalised; mixed ones
            have ``score`` (B, K), float32, beside ``label`` in ``data_samples``.

        Raises:
            UserError: If the images have not as many channels as ``mean``.
        """
        done = super().forward(data, training)
        if not training or self.batch_augments is None:
            return done
        samples = done["data_samples"]
        # The batch as it came is still on the host.
        first = SampleKey(int(data["data_samples"]["key"][0]))
        with torch.autocast(self.device.type, enabled=False), keyed_random(first):
            one_hot = F.one_hot(samples["label"], self.num_classes)
            inputs, score = self.batch_augments(done["inputs"], one_hot)
        return {**done, "inputs": inputs, "data_samples": {**samples, "score": score}}
