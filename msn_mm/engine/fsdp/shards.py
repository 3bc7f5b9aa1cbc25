"""Between whole tensors, as checkpoints hold them, and the shards of each process.

A checkpoint of a sharded run is that of any other run: whole tensors under the
same names and numbers. So it loads without shards, and theirs load with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def gather(value: Any) -> Any:
    """Return a state with every shard replaced by the whole tensor, in the first process's memory.

    Collective: all processes call it with states of the same structure. One
    tensor at a time is whole on a device. The other processes get an empty
    tensor in the place of each whole one, so none but the first ever holds a
    second copy of the model.

    Args:
        value: tensors and numbers in dicts, lists and tuples.
    """
    if isinstance(value, DTensor):
        with torch.no_grad():
            whole = value.full_tensor()
        return whole.cpu() if dist.get_rank() == 0 else whole.new_empty(0)
    if isinstance(value, Tensor):
        return value.detach().cpu() if dist.get_rank() == 0 else value.new_empty(0)
    if isinstance(value, Mapping):
        return {key: gather(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(gather(item) for item in value)
    return value


@torch.no_grad()
def shard_like(whole: Tensor, parameter: DTensor) -> DTensor:
    """Return this process's shard of a whole tensor, laid out as ``parameter`` is.

    Every process holds ``whole`` already, so nothing is sent. The shard is a
    copy: it does not keep the whole tensor alive.
    """
    mesh, placements = parameter.device_mesh, parameter.placements
    part = distribute_tensor(whole.detach(), mesh, placements, src_data_rank=None)
    return DTensor.from_local(
        part.to_local().clone(),
        mesh,
        placements,
        run_check=False,
        shape=part.shape,
        stride=part.stride(),
    )


def accept_whole_weights(model: nn.Module) -> None:
    """Let ``load_state_dict``, torch's or MMEngine's, of a sharded model take whole tensors."""
    for module in model.modules():
        if module._parameters:
            module.register_load_state_dict_pre_hook(_shard_weights)


def _shard_weights(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any, **__: Any
) -> None:
    for name, parameter in module._parameters.items():
        state_dict.update(_sharded({prefix + name: state_dict.get(prefix + name)}, parameter))


def accept_whole_moments(optimizer: Optimizer) -> None:
    """Let ``load_state_dict`` of an optimizer over shards take whole tensors."""
    optimizer.register_load_state_dict_pre_hook(_shard_moments)


def _shard_moments(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if len(numbers) != len(parameters):
        return state_dict  # torch tells what does not fit
    state = dict(state_dict["state"])
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in state:
            state[number] = {**state[number], **_sharded(state[number], parameter)}
    return {**state_dict, "state": state}


def _sharded(values: Mapping[str, Any], parameter: Any) -> dict[str, DTensor]:
    """Return the shards of those values that are whole tensors of a sharded parameter's shape."""
    if not isinstance(parameter, DTensor):
        return {}
    return {
        name: shard_like(value, parameter)
        for name, value in values.items()
        if isinstance(value, Tensor)
        and not isinstance(value, DTensor)
        and value.shape == parameter.shape
    }
