"""Labelled images for validation: what the classifier learns from, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from msn_mm.datasets.decode import as_pixels, to_array
from msn_mm.datasets.evaluation_images import EvaluationImages, Transform
from msn_mm.datasets.labels import no_labels
from msn_mm.datasets.pixel_window import MAX_CHANNELS, as_window, window_setting
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS, TRANSFORMS

# Times the short side: no more of an image's long side enters its central square.
_LONGEST = 32


@DATASETS.register_module()
class LabelledImages(Dataset):
    """A labelled support set followed by a query set, for MMEngine's evaluation loops.

    Samples collate with MMEngine's ``default_collate``. The two parts by
    themselves are ``support`` and ``query``, each an
    :class:`~msn_mm.datasets.EvaluationImages`.

    Args:
        support: Labelled training images of the low-shot protocol, a data set or
            its config; ``get_data_info`` gives ``img`` or ``img_path``, and
            ``gt_label``.
        query: Images to be classified, likewise.
        transform: From a sample to uint8 (C, H, W), or its config
            (:class:`EvalCrop`).

    Raises:
        UserError: If the two name different classes.
    """

    def __init__(
        self,
        support: Mapping[str, Any] | BaseDataset,
        query: Mapping[str, Any] | BaseDataset,
        transform: Mapping[str, Any] | Transform,
    ) -> None:
        self.support = EvaluationImages(support, transform)
        self.query = EvaluationImages(query, self.support.transform)
        ours, theirs = self.support.classes, self.query.classes
        if ours is not None and theirs is not None and ours != theirs:
            odd = sorted(set(ours) ^ set(theirs))
            raise UserError(
                f"support and query images have different classes, for example '{odd[0]}'"
                if odd
                else "support and query images have their classes in different orders"
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information of the support set, ``classes`` among it where known."""
        return self.support.metainfo

    def full_init(self) -> None:
        """Load the annotations of both parts, if they were told to wait."""
        self.support.full_init()
        self.query.full_init()

    def __len__(self) -> int:
        return len(self.support) + len(self.query)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one image.

        Returns:
            ``inputs`` uint8 (C, H, W); ``data_samples``: ``index``, ``label``, and
            ``support`` (True for a support image).

        Raises:
            UserError: If the image is damaged or has no label.
        """
        is_support = index < len(self.support)
        part = self.support if is_support else self.query
        info = part.dataset.get_data_info(index if is_support else index - len(self.support))
        if "gt_label" not in info:
            raise no_labels(part.dataset, "evaluation")
        sample = {"index": int(index), "label": int(info["gt_label"]), "support": is_support}
        return {"inputs": part.view(info), "data_samples": sample}


@TRANSFORMS.register_module()
class EvalCrop:
    """Resize, then cut the centre: the fixed view of an evaluation.

    Resampling is torchvision's on Pillow images, which antialiases.

    Args:
        resize: Side in pixels before the cut; ``None`` leaves the size.
        crop: Side of the central square; ``None`` cuts nothing.
        resize_mode: ``short``: the short side becomes ``resize`` (low-shot);
            ``square``: both sides do (transfer, Appendix C.5).
        channels: C; 3 for RGB, 1 for grey; any other number is the files' own.
        interpolation: ``bilinear`` (torchvision's default, with which the
            published low-shot numbers were measured) or ``bicubic``.
        window: As :class:`~msn_mm.datasets.MultiCrop`, whose views the model has seen.

    Raises:
        ValueError: If a number is impossible or a name unknown.
    """

    def __init__(
        self,
        resize: int | None = 256,
        crop: int | None = 224,
        resize_mode: str = "short",
        channels: int = 3,
        interpolation: str = "bilinear",
        window: Any = None,
    ) -> None:
        if resize_mode not in ("short", "square"):
            raise ValueError(f"EvalCrop: resize_mode must be short or square, got '{resize_mode}'")
        if interpolation not in ("bicubic", "bilinear"):
            raise ValueError(
                f"EvalCrop: interpolation must be bicubic or bilinear, got '{interpolation}'"
            )
        if not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"EvalCrop: channels must be 1 to {MAX_CHANNELS}, got {channels}")
        if any(side is not None and side < 1 for side in (resize, crop)):
            raise ValueError(f"EvalCrop: sides must be positive, got {resize} and {crop}")
        if resize is not None and crop is not None and crop > resize:
            raise ValueError(f"EvalCrop: cannot cut {crop} pixels out of {resize}")
        self.resize, self.crop, self.resize_mode = resize, crop, resize_mode
        self.size = None
        if resize is not None:
            self.size = [resize] if resize_mode == "short" else [resize, resize]
        self.channels = channels
        self.window = as_window(window, channels)
        self.interpolation = InterpolationMode(interpolation)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that build this view, for results and as a cache's key."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "resize_mode": self.resize_mode,
            "channels": self.channels,
            "interpolation": self.interpolation.value,
            **window_setting(self.window),
        }

    def __call__(self, results: dict[str, Any]) -> torch.Tensor:
        """Return the view of one image, uint8 (C, H, W).

        Args:
            results: ``img`` (uint8 (H, W, C), RGB) or ``img_path``.

        Raises:
            UnreadableImageError: If the image cannot be decoded.
            UserError: If the image is smaller than the cut.
        """
        pixels = as_pixels(results, self.channels, self.window)
        if self.channels == 3:
            seen = to_array(self._seen(Image.fromarray(pixels)))
        else:  # Pillow resamples the channels of an image one by one in any case
            bands = [Image.fromarray(pixels[..., band]) for band in range(self.channels)]
            seen = np.concatenate([to_array(self._seen(band)) for band in bands], axis=2)
        return torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)))

    def _seen(self, image: Image.Image) -> Image.Image:
        if self.size is not None:
            if self.resize_mode == "short" and self.crop is not None:
                image = _shorten(image)
            image = V.resize(image, self.size, interpolation=self.interpolation)
        if self.crop is not None:
            if min(image.size) < self.crop:
                raise UserError(
                    f"an image of {image.width} x {image.height} pixels is smaller than the "
                    f"cut of {self.crop}; set resize"
                )
            image = V.center_crop(image, [self.crop, self.crop])
        return image


def _shorten(image: Image.Image) -> Image.Image:
    """Cut a strip to the middle that a central square is taken from, with room to spare.

    Resized whole, 30,000 x 3 pixels would take gigabytes.
    """
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
