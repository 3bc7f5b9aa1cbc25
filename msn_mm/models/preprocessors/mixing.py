"""Normalisation, and in training the mixing of images and of their labels.

Shapes: B images, P = B // 2 pairs, C channels, S side, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msn_mm.datasets.keyed_random import keyed_random
from msn_mm.datasets.keys import SampleKey
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor
from msn_mm.registry import MODELS


@MODELS.register_module()
class MixingPreprocessor(MultiViewPreprocessor):
    """Prepare labelled images, in training mixed as mmpretrain's ``Mixup`` and ``CutMix`` say.

    Those mix any two images of a process's batch, by one draw from global
    generators. Here image i of the first half is mixed with image i of the second, and
    which of the two ways, how much and where follows from the key of the former. As
    processes take every n-th image of the joint batch
    (:class:`~msn_mm.datasets.KeyedSampler`), a pair is the same pair on any number of
    processes with an even batch each; with another number of forward passes a step it is
    another. The last of an odd number stays as it is.

    Args:
        mean: C means, on the scale 0-255.
        std: C standard deviations, on the scale 0-255.
        batch_augments: As in mmpretrain: ``augments``, configs of ``Mixup`` and ``CutMix``,
            and ``probs``, a probability each (default: alike). ``None`` mixes nothing.
        num_classes: K; needed to mix.
        non_blocking: Copy to the device without waiting.

    Raises:
        ValueError: If images are to be mixed and ``num_classes`` is missing, or in
            another way than these two, or by impossible numbers.
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
            from mmpretrain.models.utils.batch_augments import CutMix, Mixup, RandomBatchAugment

            self.batch_augments = RandomBatchAugment(**_checked(batch_augments))
            for augment in self.batch_augments.augments:
                if augment is not None and type(augment) not in (CutMix, Mixup):
                    kind = type(augment).__name__
                    raise ValueError(f"MixingPreprocessor mixes by Mixup and CutMix, not {kind}")

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
        images, samples = done["inputs"], done["data_samples"]
        one_hot = F.one_hot(samples["label"], self.num_classes).float()
        # The batch as it came is still on the host.
        keys = data["data_samples"]["key"]
        half = len(keys) // 2
        drawn = self._draw(keys[:half].tolist(), images.shape[-2], images.shape[-1])
        drawn = drawn.to(images.device, non_blocking=True).repeat(2, 1)
        paired = slice(0, 2 * half)
        with torch.autocast(self.device.type, enabled=False):
            kept = _kept(drawn, images.shape[-2], images.shape[-1])
            images[paired] = torch.lerp(images[paired].roll(half, 0), images[paired], kept)
            share = drawn[:, :1]
            one_hot[paired] = torch.lerp(one_hot[paired].roll(half, 0), one_hot[paired], share)
        return {**done, "data_samples": {**samples, "score": one_hot}}

    def _draw(self, keys: Sequence[int], high: int, wide: int) -> Tensor:
        """Draw for P pairs: what an image keeps of its label and of a pixel, and the box.

        Returns:
            (P, 6) float32: share of the label, share of the pixels outside the box, and
            the box's first and last row and column (ends not included).
        """
        assert self.batch_augments is not None
        augments, probs = self.batch_augments.augments, self.batch_augments.probs
        rows = np.zeros((len(keys), 6), dtype=np.float32)
        rows[:, :2] = 1.0
        # Puts the generators back behind the block.
        with keyed_random(SampleKey(0)):
            for row, key in zip(rows, keys, strict=True):
                np.random.seed(key)  # noqa: NPY002  (the generator that mmpretrain draws from)
                augment = augments[np.random.choice(len(augments), p=probs)]  # noqa: NPY002
                if augment is None:
                    continue
                share = np.random.beta(augment.alpha, augment.alpha)  # noqa: NPY002
                if hasattr(augment, "cutmix_bbox_and_lam"):
                    box, row[0] = augment.cutmix_bbox_and_lam((high, wide), share)
                    row[2:] = box
                else:
                    row[:2] = share
        return torch.from_numpy(rows)


def _checked(batch_augments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that ``RandomBatchAugment`` may change, with the floats that it asks for."""
    settings = copy.deepcopy(dict(batch_augments))
    augments = settings.get("augments")
    settings["augments"] = list(augments) if isinstance(augments, list | tuple) else [augments]
    for augment in settings["augments"]:
        if isinstance(augment, dict) and "alpha" in augment:
            alpha = augment["alpha"]
            if not _is_number(alpha) or not 0 < alpha < math.inf:
                raise ValueError(f"alpha of {augment.get('type')} is {alpha!r}; it must be above 0")
            augment["alpha"] = float(alpha)
    probs = settings.get("probs")
    if probs is None:
        return settings
    given = [probs] if _is_number(probs) else probs
    count = len(settings["augments"])
    if not isinstance(given, list | tuple) or not all(map(_is_number, given)):
        raise ValueError(f"batch_augments.probs is {probs!r:.60}; give {count} numbers, as [0.5]")
    if len(given) != count or not (min(given) >= 0 and sum(given) <= 1 + 1e-9):
        raise ValueError(
            f"batch_augments.probs is {probs!r:.60}; give each of the {count} augments a "
            "probability, 1 at most in all"
        )
    # RandomBatchAugment appends what is left, which rounding must not make negative.
    shares = [float(p) for p in given]
    while sum(shares) > 1:
        shares = [math.nextafter(share, 0) for share in shares]
    settings["probs"] = shares
    return settings


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kept(drawn: Tensor, high: int, wide: int) -> Tensor:
    """``(n, 6)`` as drawn -> each pixel's share of the image itself, ``(n, 1, high, wide)``."""
    top, bottom, left, right = drawn[:, 2:, None].unbind(1)
    rows = torch.arange(high, device=drawn.device)
    columns = torch.arange(wide, device=drawn.device)
    is_high = ((rows >= top) & (rows < bottom))[:, None, :, None]
    is_wide = ((columns >= left) & (columns < right))[:, None, None, :]
    return torch.where(is_high & is_wide, 0.0, drawn[:, 1, None, None, None])
