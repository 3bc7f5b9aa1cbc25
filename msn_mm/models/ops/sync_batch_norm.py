"""Batch norm over the joint batch of all ranks, on any device.

Legend: B images, C channels, P places of a feature map (1 for vectors).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from msn_mm.models.ops.distributed import all_reduce_sum, world_size
from msn_mm.models.ops.precision import exact
from msn_mm.registry import MODELS


@MODELS.register_module()
class SyncBatchNorm(_BatchNorm):
    """Batch norm whose training statistics span all ranks.

    ``torch.nn.SyncBatchNorm`` refuses a CPU, and torch's data-parallel wrapper
    refuses any module derived from it there. This one is torch's batch norm on
    one process and in eval mode; over several ranks it sums over them, first for
    the mean, then for the squared deviations, which loses no digits to
    cancellation. For the backward pass it keeps its input and the statistics, as
    torch's does. Statistics are float32 or better, also under autocast.

    Input ``(B, C)`` or ``(B, C, ...)``: vectors, feature maps, volumes. One process needs
    two values a channel, as torch's. Over several ranks a rank may hold none, and from
    less than two on all ranks together the running statistics learn nothing. The names
    in the state dict are those of torch's batch norms.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"SyncBatchNorm needs (B, C) or (B, C, ...), not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            output, mean, variance, count = _JointNorm.apply(
                input, self.weight, self.bias, float(self.eps)
            )
        if self.track_running_stats:
            self._track(mean, variance * (count / (count - 1)), count)
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor, count: Tensor) -> None:
        assert self.num_batches_tracked is not None
        # No variance in less than two rows, and no mean in none: nothing to learn then.
        enough = count >= 2
        self.num_batches_tracked.add_(enough.to(self.num_batches_tracked.dtype))
        # As in torch: no momentum means the plain average over all batches.
        batches = 1.0 if self.momentum is not None else float(self.num_batches_tracked)
        factor = 1.0 / max(batches, 1.0) if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased_variance)):
            assert running is not None
            running.lerp_(torch.where(enough, new.to(running.dtype), running), factor)


class _JointNorm(torch.autograd.Function):
    """``(B, C, ...)`` -> the same, normalised over the rows and places of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, channels = exact(given), given.shape[1]
        sums = x.new_empty(channels + 1)
        sums[:channels], sums[channels] = _over_places(x), float(x.numel() // channels)
        sums = all_reduce_sum(sums)
        mean, count = sums[:channels] / sums[channels], sums[channels].clone()
        centred = x - _across(mean, x)
        variance = all_reduce_sum(_over_places(centred.square())) / count
        scale = torch.rsqrt(variance + eps)
        # In the precision in which it came: no second copy of it under autocast.
        ctx.save_for_backward(given, weight, mean, scale, count)
        output = centred.mul_(_across(scale if weight is None else scale * weight, x))
        if bias is not None:
            output.add_(_across(bias.to(x.dtype), x))
        ctx.mark_non_differentiable(mean, variance, count)
        return output.to(given.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # With n = (x - mean) * scale: dL/dx = scale * (g - mean(g) - n * mean(g * n))
        # for g = dL/dn, the means over all ranks.
        given, weight, mean, scale, count = ctx.saved_tensors
        x, grad = exact(given), exact(grad)
        normal = (x - _across(mean, x)).mul_(_across(scale, x))
        own = torch.stack([_over_places(grad), _over_places(grad * normal)])
        of_bias, of_weight = own.unbind()
        grad_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            first, second = (all_reduce_sum(own) / count).unbind()
            grad_x = grad - _across(first, x) - normal.mul_(_across(second, x))
            grad_x.mul_(_across(scale if weight is None else scale * weight, x))
            grad_x = grad_x.to(given.dtype)
        return (
            grad_x,
            of_weight if ctx.needs_input_grad[1] else None,
            of_bias if ctx.needs_input_grad[2] else None,
            None,
        )


def _over_places(x: Tensor) -> Tensor:
    """Sum ``(B, C, ...)`` over all but the channels -> ``(C,)``."""
    return x.sum(dim=[0, *range(2, x.ndim)])


def _across(values: Tensor, like: Tensor) -> Tensor:
    """``(C,)`` -> a shape that goes with ``(B, C, ...)``."""
    return values.view(-1, *[1] * (like.ndim - 2))
