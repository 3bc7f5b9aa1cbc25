"""torch's ``fully_shard`` (FSDP2) as a model wrapper of MMEngine.

MMEngine's own ``MMFullyShardedDataParallel`` wraps the first FSDP, which torch
has given up.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from msn_mm.engine.fsdp.shards import accept_whole_weights
from msn_mm.engine.fsdp.units import full_precision, units
from msn_mm.errors import UserError
from msn_mm.models.ops.compiled_blocks import has_compiled

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


# In MMEngine's own registry: its runner asks that one, without our scope.
@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """Shard a model's parameters, gradients and optimizer state over all processes.

    Each block of a trunk, and of the target's trunk, is a unit of its own: its
    weights are whole in a device's memory only while it computes. What lies
    around the blocks (embeddings, norms, heads, prototypes) is one more unit,
    whole from the forward to the backward pass. Gradients are means over the
    processes, as under ``DistributedDataParallel``; buffers stay whole, as batch
    norm's statistics are those of all processes already.

    Args:
        module: the model, on its device. The first process's weights are taken.
        param_dtype: ``bfloat16`` sends and computes the weights of the blocks'
            linear layers so, as autocast would cast them; the shards, the sums
            of gradients and all else stay as they are. For ``--amp``, which
            sets it.
        reshard_after_forward: drop a block's weights after its forward pass and
            fetch them again for the backward pass: less memory, more traffic.

    Raises:
        UserError: for an unknown dtype, or one together with compiled blocks.
    """

    def __init__(
        self,
        module: nn.Module,
        param_dtype: str | None = None,
        reshard_after_forward: bool = True,
    ) -> None:
        super().__init__()
        if param_dtype is not None and param_dtype not in _DTYPES:
            raise UserError(
                f"model_wrapper_cfg.param_dtype is '{param_dtype}'; there are {', '.join(_DTYPES)}"
            )
        if param_dtype is not None and has_compiled(module):
            # Norms are then units within a block, whose fetching no graph can hold.
            raise UserError(
                f"compiled blocks cannot be sent as {param_dtype}: set "
                "model_wrapper_cfg.param_dtype=None, or leave --compile out"
            )
        _take_first_s_weights(module)
        device = next(module.parameters()).device.type
        mesh = init_device_mesh(device, (dist.get_world_size(),))
        self._device, self._dtype = device, None if param_dtype is None else _DTYPES[param_dtype]
        policy = MixedPrecisionPolicy()
        if param_dtype is not None:
            # Autocast chooses the type of each operation, of its inputs too.
            policy = MixedPrecisionPolicy(
                param_dtype=self._dtype,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            )
        for unit in units(module):
            if param_dtype is not None and (full := full_precision(unit)):
                fully_shard(full, mesh=mesh, reshard_after_forward=reshard_after_forward)
            fully_shard(
                unit, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward
            )
        fully_shard(module, mesh=mesh)
        self.module: Any = module
        accept_whole_weights(module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take one training step, as MMEngine's data-parallel wrapper does."""
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            losses = self(**data, mode="loss") if isinstance(data, dict) else self(*data, "loss")
        loss, scalars = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return scalars

    def val_step(self, data: Any) -> Any:
        """Predict for validation."""
        with self._autocast():
            return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Predict for a test."""
        with self._autocast():
            return self.module.test_step(data)

    def _autocast(self) -> AbstractContextManager[Any]:
        # MMEngine validates without the optimizer wrapper's autocast, and blocks
        # whose weights come in bfloat16 need it.
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)


@torch.no_grad()
def _take_first_s_weights(module: nn.Module) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), src=0)
