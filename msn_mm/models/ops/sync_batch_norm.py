"""Batch norm over the joint batch of all ranks, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msn_mm.models.ops.distributed import all_reduce_sum, world_size


class SyncBatchNorm(nn.BatchNorm1d):
    """Batch norm whose training statistics span all ranks.

    ``torch.nn.SyncBatchNorm`` refuses a CPU, and torch's data-parallel wrapper
    refuses any module derived from it there. This one is torch's ``BatchNorm1d``
    on one process and in eval mode; over several ranks it sums over them
    differentiably, first for the mean, then for the squared deviations, which
    loses no digits to cancellation. Statistics are float32 or better, also
    under autocast.

    Input ``(B, C)``; every rank must hold at least one row, and all ranks
    together two.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._joint(input.to(torch.promote_types(input.dtype, torch.float32))).to(
                input.dtype
            )

    def _joint(self, x: Tensor) -> Tensor:
        count = all_reduce_sum(x.new_tensor(float(len(x))))
        mean = all_reduce_sum(x.sum(0)) / count
        centred = x - mean
        variance = all_reduce_sum(centred.square().sum(0)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        output = centred * torch.rsqrt(variance + self.eps)
        return output * self.weight + self.bias if self.affine else output

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # As in torch: no momentum means the plain average over all batches.
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased_variance)):
            assert running is not None
            running.lerp_(new.to(running.dtype), factor)
