"""Labelled images to train a classifier on: cut and flipped, each from its key.

Shapes: B images, C channels, S side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.decode import as_pixels
from msn_mm.datasets.keyed_random import keyed_random
from msn_mm.datasets.keys import SampleKey
from msn_mm.datasets.labels import no_labels
from msn_mm.datasets.multi_crop import sample_crop
from msn_mm.datasets.pixel_window import as_window
from msn_mm.datasets.replacement import show
from msn_mm.datasets.windows import Windows, windows_of
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS, TRANSFORMS

Augmentation = Callable[[dict[str, Any]], dict[str, Any] | None]


@DATASETS.register_module()
class LabelledViews(Dataset):
    """One random view of each labelled image, for training under :class:`KeyedSampler`.

    Samples collate with :func:`labelled_collate`. An image that cannot be read
    is replaced by another, with that one's label; see
    :func:`msn_mm.datasets.replacement.show`.

    Args:
        dataset: A data set whose ``get_data_info`` gives ``img`` (uint8 (H, W, C),
            RGB) or ``img_path``, and ``gt_label``; or its config. Its own
            pipeline is not used.
        transform: From a sample to uint8 (C, S, S), or its config
            (:class:`LabelledCrop`; :class:`EvalCrop` for a fixed view).
        indices: Which images to use, by their place in the data set; ``None`` for
            all. A key then counts within these.
        max_tries: How many images in a row may be unreadable; 1 replaces none.
        subset_file: Instead of ``indices`` a file with an image name a line, as
            ``tools/lowshot.py`` reads and writes them; it must name images of every class.

    Raises:
        UserError: If an index is not in the data set, none is given, or the file cannot
            be read or names other images.
        ValueError: If ``max_tries`` is below 1.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        transform: Mapping[str, Any] | Callable[[dict[str, Any]], Tensor],
        indices: Sequence[int] | None = None,
        max_tries: int = 20,
        subset_file: str | None = None,
    ) -> None:
        if max_tries < 1:
            raise ValueError(f"max_tries must be 1 or more, got {max_tries}")
        if indices is not None and subset_file is not None:
            raise UserError("indices and subset_file both choose images; give one of the two")
        self.dataset = build_data(dataset)
        if subset_file is not None:
            indices = _named_in(subset_file, self.dataset)
        self.transform = (
            TRANSFORMS.build(transform) if isinstance(transform, Mapping) else transform
        )
        self.max_tries = max_tries
        self.indices: np.ndarray | None = None
        if indices is not None:
            self.indices = np.asarray(indices, dtype=np.int64)
            odd = self.indices[(self.indices < 0) | (self.indices >= len(self.dataset))]
            if odd.size or not self.indices.size:
                what = f"image {odd[0]} was asked for" if odd.size else "no image was asked for"
                raise UserError(f"{what} of a data set of {len(self.dataset)} images; see indices")

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information of the wrapped data set, ``classes`` among it where known."""
        return dict(self.dataset.metainfo)

    @property
    def windows(self) -> Windows | None:
        """In which order the images in use are to be read; None for any."""
        found = windows_of(self.dataset)
        return found if found is None or self.indices is None else found.of(self.indices)

    def full_init(self) -> None:
        """Load the wrapped data set's annotations, if it was told to wait."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset) if self.indices is None else len(self.indices)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what the wrapped data set says of one of the images in use."""
        return self.dataset.get_data_info(self.place(index))

    def place(self, index: int) -> int:
        """Return where in the wrapped data set an image is."""
        return int(index) if self.indices is None else int(self.indices[index])

    def __getitem__(self, key: int) -> dict[str, Any]:
        """Return one view of one image.

        Args:
            key: A :class:`SampleKey`; a plain index counts as seed 0, epoch 0.

        Returns:
            ``inputs`` uint8 (C, S, S); ``data_samples``: ``index`` (place in the
            wrapped data set) and ``label`` of the image shown, ``key``, 32 unsigned
            bits for what the device draws for this view, and ``unreadable``, a list
            of (path, reason) of the images that were to be shown before it.

        Raises:
            UserError: If ``max_tries`` images in a row are unreadable, or one
                has no label.
        """
        key = SampleKey.of(key)
        shown = show(self, key, self.transform, self.max_tries)
        if "gt_label" not in shown.info:
            raise no_labels(self.dataset, "a classifier")
        sample = {
            "index": self.place(shown.place),
            "label": int(shown.info["gt_label"]),
            "key": key.view_key(0),
            "unreadable": shown.unreadable,
        }
        return {"inputs": shown.views, "data_samples": sample}


def _named_in(file: str, dataset: BaseDataset) -> Sequence[int]:
    """Return the places of the images that a file names, ascending."""
    # Splits belong to the evaluation, which builds on the data sets: not before it is asked.
    from msn_mm.datasets.evaluation_images import EvaluationImages
    from msn_mm.evaluation.split_files import splits_from_files

    images = EvaluationImages(dataset, lambda info: torch.empty(0))
    if images.labels is None:
        raise no_labels(dataset, "a classifier")
    ((subset,),) = splits_from_files([file], images.names, images.labels, images.classes).values()
    return subset.tolist()


@TRANSFORMS.register_module()
class LabelledCrop:
    """Random resized crop and flip on uint8 pixels, then any further augmentation.

    The cut is torchvision's in distribution, resampled with antialiasing.

    Args:
        size: S, side in pixels.
        scale: Range of the share of the image that the crop covers.
        ratio: Range of width / height of the crop.
        flip: Probability of the mirror image.
        channels: C; 3 reads files as RGB, 1 as grey; any other number is the files' own.
        interpolation: ``bilinear`` or ``bicubic``.
        augment: What follows, in this order: functions (or their configs, of the
            ``TRANSFORMS`` registry) of ``{"img": uint8 (S, S, C), RGB, contiguous;
            "key": SampleKey}`` that return the same with another ``img`` of the same
            shape. mmpretrain's take part as they are: what they draw from the
            generators of ``random``, ``numpy.random`` and torch comes from the
            key too (:func:`~msn_mm.datasets.keyed_random.keyed_random`).
        window: As :class:`~msn_mm.datasets.MultiCrop`.

    Raises:
        ValueError: If a number is impossible or a name unknown.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        channels: int = 3,
        interpolation: str = "bilinear",
        augment: Sequence[Mapping[str, Any] | Augmentation] = (),
        window: Any = None,
    ) -> None:
        if not isinstance(size, int) or size < 1 or channels < 1:
            raise ValueError(
                f"LabelledCrop: size and channels must be positive: {size}, {channels}"
            )
        if len(scale) != 2 or not 0.0 < scale[0] <= scale[1] <= 1.0:
            raise ValueError(
                f"LabelledCrop: scale must be 0 < low <= high <= 1, got {tuple(scale)}"
            )
        if len(ratio) != 2 or not 0.0 < ratio[0] <= ratio[1]:
            raise ValueError(f"LabelledCrop: ratio must be 0 < low <= high, got {tuple(ratio)}")
        if not 0.0 <= flip <= 1.0:
            raise ValueError(f"LabelledCrop: flip must lie in [0, 1], got {flip}")
        if interpolation not in ("bilinear", "bicubic"):
            raise ValueError(
                f"LabelledCrop: interpolation must be bilinear or bicubic, got '{interpolation}'"
            )
        self.size, self.flip, self.channels = size, flip, channels
        self.window = as_window(window, channels)
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.log_ratio = (math.log(ratio[0]), math.log(ratio[1]))
        self.interpolation = interpolation
        self.augment: list[Augmentation] = [
            TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in augment
        ]

    def __call__(self, results: dict[str, Any]) -> Tensor:
        """Return one view, uint8 (C, S, S).

        Args:
            results: ``img`` (uint8 (H, W, C), RGB) or ``img_path``, and ``key``
                (:class:`SampleKey`; a plain index counts as seed 0, epoch 0).

        Raises:
            UnreadableImageError: If the image cannot be decoded.
            ValueError: If an augmentation returns no uint8 image of that shape.
        """
        key = SampleKey.of(results["key"])
        pixels = as_pixels(results, self.channels, self.window)
        rng = key.generator(0)
        high, wide, _ = pixels.shape
        top, left, height, width = sample_crop(rng, high, wide, self.scale, self.log_ratio)
        # Seen as channels-last, which torch's uint8 resampling is fastest on.
        source = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
        view = F.interpolate(
            source[..., top : top + height, left : left + width],
            size=(self.size, self.size),
            mode=self.interpolation,
            antialias=True,
        )[0]
        if rng.random() < self.flip:
            view = view.flip(-1)
        if self.augment:
            view = self._augmented(view, key)
        return view.contiguous()

    def _augmented(self, view: Tensor, key: SampleKey) -> Tensor:
        sample: dict[str, Any] | None = {
            "img": np.ascontiguousarray(view.permute(1, 2, 0).numpy()),
            "key": key,
        }
        with keyed_random(key):
            for step in self.augment:
                sample = step(sample) if sample is not None else None
        image = None if sample is None else sample["img"]
        if image is None or image.dtype != np.uint8 or image.shape != (*view.shape[1:], len(view)):
            found = "nothing" if image is None else f"{image.dtype} of {image.shape}"
            raise ValueError(f"LabelledCrop: the augmentations made {found} of a uint8 image")
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


@FUNCTIONS.register_module()
def labelled_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack B samples of :class:`LabelledViews`.

    Returns:
        ``inputs`` uint8 (B, C, S, S); ``data_samples``: ``index``, ``label`` and
        ``key``, int64 (B,), and ``unreadable``, a list of (path, reason).
    """
    data = [sample["data_samples"] for sample in samples]
    numbers = {
        name: torch.tensor([d[name] for d in data], dtype=torch.int64)
        for name in ("index", "label", "key")
    }
    return {
        "inputs": torch.stack([sample["inputs"] for sample in samples]),
        "data_samples": {**numbers, "unreadable": [bad for d in data for bad in d["unreadable"]]},
    }
