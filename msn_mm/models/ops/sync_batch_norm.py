"""Batch norm over the joint batch of all ranks, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msn_mm.models.ops.distributed import all_reduce_sum, world_size


class SyncBatchNorm(nn.SyncBatchNorm):
    """``torch.nn.SyncBatchNorm`` that also works on a CPU.

    On CUDA, on one process and in eval mode it is torch's own. torch refuses
    CPU tensors ("expected input tensor to be on GPU"); there the joint mean and
    variance are computed with two differentiable sums over ranks, in the order
    mean first, squared deviations second, which loses no digits to
    cancellation.

    Input ``(B, C)`` or ``(B, C, ...)``; every rank must hold at least one row.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return self._local(input)
        if input.device.type != "cpu":
            return super().forward(input)
        return self._joint(input)

    def _local(self, input: Tensor) -> Tensor:
        factor = self._count_batch() if self.training else 0.0
        use_batch = self.training or self.running_mean is None
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_batch,
            factor,
            self.eps,
        )

    def _count_batch(self) -> float:
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        if self.momentum is None:
            return 1.0 / float(self.num_batches_tracked)
        return self.momentum

    def _joint(self, input: Tensor) -> Tensor:
        factor = self._count_batch()
        dims = [d for d in range(input.dim()) if d != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        rows = torch.tensor(
            float(input.numel() // input.shape[1]), dtype=input.dtype, device=input.device
        )
        count = all_reduce_sum(rows)
        mean = all_reduce_sum(input.sum(dims)) / count
        centred = input - mean.view(shape)
        variance = all_reduce_sum(centred.square().sum(dims)) / count
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                unbiased = variance * (count / (count - 1))
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)
        output = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None and self.bias is not None:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output
