"""The device's half of the augmentations, and normalisation.

Shapes: B images, V views of a group, C channels, S side, n numbers of an operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from msn_mm.datasets.view_ops.base import find_op, host_function
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.errors import UserError
from msn_mm.registry import MODELS


@MODELS.register_module()
class MultiViewPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, apply the operations its views drew, normalise.

    Groups of views that share side and operations go through them as one batch; on
    a CPU colour views go through them one by one
    (:class:`msn_mm.datasets.view_ops.host.HostView`), to the same pixels up to
    rounding. The numbers that the views drew stay on the host, from where the
    operations plan their work; only pixels and keys move.

    Args:
        mean: C means, on the scale 0-255.
        std: C standard deviations, on the scale 0-255.
        non_blocking: Copy to the device without waiting (of use with pinned memory).

    Raises:
        ValueError: If the lengths differ or a deviation is not positive.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise UserError(f"mean and std must be alike in length, std positive: {mean}, {std}")
        shape = (1, len(mean), 1, 1)
        # Kept on the scale of the operations, [0, 1].
        self.register_buffer("mean", torch.tensor(mean).view(shape) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape) / 255, persistent=False)
        self.register_buffer("scale", 1 / self.std, persistent=False)
        self.register_buffer("shift", -self.mean / self.std, persistent=False)

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch for the model.

        Args:
            data: A training batch (``inputs`` is a dict of groups of views, as
                :func:`msn_mm.datasets.multi_view_collate` gives it) or an
                evaluation batch (``inputs`` is uint8 (B, C, H, W)).
            training: Not used: what a batch needs shows in its form.

        Returns:
            The same batch on the device, images float32 and normalised, without
            ``params``.

        Raises:
            UserError: If the images have not as many channels as ``mean``.
        """
        # MMEngine calls this under the model's autocast; half precision would
        # cost pixels several grey levels.
        with torch.autocast(self.device.type, enabled=False):
            inputs = data["inputs"]
            if isinstance(inputs, dict):
                inputs = self._views(inputs)
            else:
                inputs = torch.stack(list(inputs)) if isinstance(inputs, (list, tuple)) else inputs
                self._check(inputs, "the images")
                inputs = self._normalise(_to_unit(self.cast_data(inputs)))
            return {**data, "inputs": inputs, "data_samples": self.cast_data(data["data_samples"])}

    def _views(self, inputs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        passes: dict[tuple[Any, ...], list[str]] = {}
        for name, group in inputs.items():
            self._check(group["images"], f"the views '{name}'")
            like = (tuple(group["images"].shape[1:]), tuple(group["params"]))
            passes.setdefault(like, []).append(name)
        done: dict[str, Tensor] = {}
        for names in passes.values():
            groups = [inputs[name] for name in names]
            images = _cat([self.cast_data(group["images"]) for group in groups])
            params = {
                op: _cat([group["params"][op] for group in groups]).cpu()
                for op in groups[0]["params"]
            }
            images = self._pass(images, params)
            sizes = [len(group["images"]) for group in groups]
            done.update(zip(names, images.split(sizes), strict=True))
        return {
            name: {
                "images": done[name],
                **{k: self.cast_data(group[k]) for k in group if k not in ("images", "params")},
            }
            for name, group in inputs.items()
        }

    def _pass(self, images: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Apply operations to uint8 images (N, C, S, S) and normalise."""
        if images.device.type == "cpu" and images.shape[1] == 3 and images.dtype == torch.uint8:
            on_host = [host_function(find_op(name)) for name in params]
            if None not in on_host:
                return self._one_by_one(images, list(zip(on_host, params.values(), strict=True)))
        images = _to_unit(images)
        for name, numbers in params.items():
            images = find_op(name).apply(images, numbers)
        return self._normalise(images)

    def _one_by_one(self, images: Tensor, ops: list[tuple[Any, Tensor]]) -> Tensor:
        done = torch.empty(images.shape)
        scale, shift = self.scale.flatten().numpy(), self.shift.flatten().numpy()
        numbers = [(on_host, rows.numpy()) for on_host, rows in ops]
        for row, (image, out) in enumerate(zip(images.numpy(), done.numpy(), strict=True)):
            view = HostView(image)
            for on_host, drawn in numbers:
                on_host(view, drawn[row])
            view.write(out, scale, shift)
        return done

    def _normalise(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images, self.scale)

    def _check(self, images: Tensor, what: str) -> None:
        if images.shape[1] != self.mean.shape[1]:
            raise UserError(
                f"{what} have {images.shape[1]} channels and data_preprocessor.mean has "
                f"{self.mean.shape[1]} values; give mean and std one value a channel"
            )


def _to_unit(images: Tensor) -> Tensor:
    """Return uint8 images as new float32 ones in [0, 1], channels before pixels in memory."""
    as_float = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return as_float.mul_(1 / 255)


def _cat(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
