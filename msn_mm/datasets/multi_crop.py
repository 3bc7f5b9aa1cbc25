"""All views of one image: decoded once, cut to uint8 in the worker.

What follows the cut (flips, colour, blur, normalisation) happens on the model's
device, in :class:`msn_mm.models.preprocessors.MultiViewPreprocessor`; its random
numbers are drawn here and travel with the pixels.

Shapes: V views of a group, C channels, S side, n numbers of an operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from msn_mm.datasets.decode import as_pixels, to_array
from msn_mm.datasets.keys import ReusableGenerator, SampleKey
from msn_mm.datasets.pixel_window import as_window
from msn_mm.datasets.view_ops.base import ViewOp, find_op
from msn_mm.registry import TRANSFORMS

_TRIES = 10


def sample_crop(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: Sequence[float],
    log_ratio: Sequence[float],
) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop, distributed as torchvision draws it.

    Ten tries of a share of the area (uniform) and an aspect ratio (uniform in
    the logarithm); where none fits, the largest box of an allowed ratio at the
    centre.

    Args:
        rng: Generator; a fixed number of draws is taken.
        height: Image height in pixels.
        width: Image width in pixels.
        scale: Range of the share of the area.
        log_ratio: Range of ln(width / height).

    Returns:
        top, left, height, width in pixels.
    """
    uniform = rng.random(2 * _TRIES + 2).tolist()
    area = height * width
    for k in range(_TRIES):
        part = area * (scale[0] + (scale[1] - scale[0]) * uniform[2 * k])
        ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * uniform[2 * k + 1])
        w, h = round(math.sqrt(part * ratio)), round(math.sqrt(part / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int((height - h + 1) * uniform[-2])
            left = int((width - w + 1) * uniform[-1])
            return top, left, h, w
    low, high = math.exp(log_ratio[0]), math.exp(log_ratio[1])
    w, h = width, height
    if width / height < low:
        h = round(w / low)
    elif width / height > high:
        w = round(h * high)
    return (height - h) // 2, (width - w) // 2, h, w


@dataclass
class View:
    """One group of like views, as configured.

    Args:
        size: S, side in pixels.
        scale: Range of the share of the image that a crop covers.
        ratio: Range of width / height of a crop.
        num: V, how many views; 0 leaves the group out.
        ops: View operations, in the order in which they are applied.
        same_as: Name of a group that is described alike: this one then shows the
            very same pixels, and differs by what a model does with its own keys.
        interpolation: ``bilinear`` or ``bicubic``, both antialiased.

    Raises:
        ValueError: If a number is impossible or an operation unknown.
    """

    size: int
    scale: Sequence[float]
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    num: int = 1
    ops: Sequence[Mapping[str, Any]] = ()
    same_as: str | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size must be a whole number of pixels, got {self.size!r}")
        if not isinstance(self.num, int) or self.num < 0:
            raise ValueError(f"num must be 0 or more, got {self.num!r}")
        for name, most in (("scale", 1.0), ("ratio", math.inf)):
            pair = getattr(self, name)
            is_pair = isinstance(pair, list | tuple) and len(pair) == 2
            if not is_pair or not 0.0 < pair[0] <= pair[1] <= most:
                upper = " <= 1" if most == 1.0 else ""
                raise ValueError(f"{name} must be (low, high), 0 < low <= high{upper}, not {pair}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation must be bilinear or bicubic: {self.interpolation!r}")
        self.log_ratio = (math.log(self.ratio[0]), math.log(self.ratio[1]))
        self.named_ops: dict[str, ViewOp] = {}
        for cfg in self.ops:
            kind = str(cfg["type"])
            # An operation may be listed twice; its numbers need a name of their own.
            count = sum(name.split("#")[0] == kind for name in self.named_ops)
            self.named_ops[f"{kind}#{count + 1}" if count else kind] = _build_op(dict(cfg))


def _check_twin(name: str, view: View, views: Mapping[str, View]) -> None:
    if view.same_as is None:
        return
    names = list(views)
    if view.same_as not in names[: names.index(name)]:
        raise ValueError(
            f"view '{name}': same_as is '{view.same_as}', which is no view listed before it"
        )
    twin = views[view.same_as]
    for key in fields(View):
        if key.name != "same_as" and getattr(view, key.name) != getattr(twin, key.name):
            raise ValueError(
                f"view '{name}' is to be the same as '{view.same_as}', but their {key.name} "
                "differs; describe them alike"
            )


def _build_op(cfg: dict[str, Any]) -> ViewOp:
    kind = str(cfg.pop("type"))
    op = find_op(kind)
    try:
        return op(**cfg)
    except TypeError as error:
        raise ValueError(f"view operation {kind}: {error}") from error


@TRANSFORMS.register_module()
class MultiCrop:
    """Cut every view of an image; see the module.

    Views are numbered through all groups in the order of the config; the number
    of a view, with (seed, epoch, index), is all that its randomness depends on.
    Pixels are resampled with antialiasing, bilinearly unless a view asks for bicubic.

    Args:
        views: For each group of views its name and the arguments of :class:`View`.
        channels: C; 3 reads files as RGB, 1 as grey; any other number is the files' own.
        window: ``(low, high)``, the range of the files' values that becomes 0 to 255, or
            such a pair for each channel (:mod:`msn_mm.datasets.pixel_window`); ``None``
            for all that 8 or 16 bits hold.
        reference: Apply torchvision's own transforms to Pillow images here
            instead, seeded from the same keys: the same distribution, slower,
            to compare with. Nothing is then left to do on the device but to
            normalise.

    Raises:
        ValueError: If there is no view, or one is described impossibly.
    """

    def __init__(
        self,
        views: Mapping[str, Mapping[str, Any]],
        channels: int = 3,
        reference: bool = False,
        window: Any = None,
    ) -> None:
        if not views:
            raise ValueError("MultiCrop needs at least one view")
        if channels < 1 or (reference and channels not in (1, 3)):
            raise ValueError(f"channels must be positive (1 or 3 in reference mode): {channels}")
        self.channels = channels
        self.window = as_window(window, channels)
        self._generator = ReusableGenerator()
        self.views: dict[str, View] = {}
        for name, cfg in views.items():
            try:
                self.views[name] = View(**cfg)
            except (TypeError, ValueError) as error:
                raise ValueError(f"view '{name}': {error}") from error
        self.views = {name: view for name, view in self.views.items() if view.num}
        if not self.views:
            raise ValueError("MultiCrop needs at least one view; all have num=0")
        for name, view in self.views.items():
            _check_twin(name, view, self.views)
        self.reference: dict[str, Callable[[Image.Image], Image.Image]] | None = None
        if reference:
            self.reference = {name: _reference(view) for name, view in self.views.items()}

    def __call__(self, results: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Cut the views of one image.

        Args:
            results: ``img`` (uint8 (H, W, C), RGB) or ``img_path``, and ``key``
                (:class:`SampleKey`; a plain index counts as seed 0, epoch 0).

        Returns:
            For each group: ``images`` uint8 (V, C, S, S), whose channels lie last in
            memory, ``key`` int64 (V,), and ``params``: for each operation float32 (V, n).

        Raises:
            UnreadableImageError: If the image cannot be decoded.
        """
        key = SampleKey.of(results["key"])
        pixels = as_pixels(results, self.channels, self.window)
        first = 0
        out: dict[str, dict[str, Any]] = {}
        for name, view in self.views.items():
            numbers = range(first, first + view.num)
            first += view.num
            if view.same_as is not None:
                group = {k: v for k, v in out[view.same_as].items() if k != "key"}
            elif self.reference is not None:
                group = self._reference_group(self.reference[name], view, pixels, key, numbers)
            else:
                group = _fast_group(self._generator, view, pixels, key, numbers)
            group["key"] = np.array(key.view_keys(numbers), dtype=np.int64)
            out[name] = group
        return out

    def _reference_group(
        self,
        transform: Callable[[Image.Image], Image.Image],
        view: View,
        pixels: np.ndarray,
        key: SampleKey,
        numbers: range,
    ) -> dict[str, Any]:
        image = Image.fromarray(pixels if self.channels == 3 else pixels[..., 0])
        images = np.empty((view.num, self.channels, view.size, view.size), dtype=np.uint8)
        # torchvision draws from torch's global generator; leave it as it was.
        with torch.random.fork_rng(devices=[]):
            for row, number in enumerate(numbers):
                torch.manual_seed(key.view_key(number))
                images[row] = to_array(transform(image)).transpose(2, 0, 1)
        return {"images": images, "params": {}}


def _fast_group(
    generator: ReusableGenerator,
    view: View,
    pixels: np.ndarray,
    key: SampleKey,
    numbers: range,
) -> dict[str, Any]:
    height, width, channels = pixels.shape
    # Channels stay last in memory, as they are decoded: torch's uint8 resampling is
    # fastest so (three to four times Pillow, from which it differs by at most one
    # grey level), and turning them round costs the device nothing.
    images = np.empty((view.num, view.size, view.size, channels), dtype=np.uint8)
    params = {
        name: np.empty((view.num, op.width), dtype=np.float32)
        for name, op in view.named_ops.items()
    }
    for row, number in enumerate(numbers):
        rng = generator.at(key, number)
        top, left, h, w = sample_crop(rng, height, width, view.scale, view.log_ratio)
        images[row] = _resize(pixels[top : top + h, left : left + w], view)
        for name, op in view.named_ops.items():
            params[name][row] = op.draw(rng)
    return {"images": images.transpose(0, 3, 1, 2), "params": params}


def _resize(crop: np.ndarray, view: View) -> np.ndarray:
    """Resample uint8 (H, W, C) to (S, S, C)."""
    # The one image of the batch gets its stride from torch: numpy's is 0, by which torch
    # does not see that the channels lie last, and gives planes that are then to be joined.
    source = torch.from_numpy(np.ascontiguousarray(crop)).unsqueeze(0).permute(0, 3, 1, 2)
    size = (view.size, view.size)
    resized = F.interpolate(source, size=size, mode=view.interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _reference(view: View) -> Callable[[Image.Image], Image.Image]:
    crop = v2.RandomResizedCrop(
        view.size,
        tuple(view.scale),
        tuple(view.ratio),
        interpolation=InterpolationMode(view.interpolation),
        antialias=True,
    )
    return v2.Compose([crop, *(op.reference() for op in view.named_ops.values())])
