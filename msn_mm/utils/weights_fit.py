"""Whether weights are those of a model: MMEngine only warns where they are not."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Say what of a state dict is not this model's, ``None`` where all of it is.

    Args:
        model: It may be on the device ``meta``, or lie in shards.
        state: By name the tensors of a checkpoint.
    """
    own = model.state_dict()
    other_shape = [k for k in own if k in state and own[k].shape != state[k].shape]
    missing = [k for k in own if k not in state]
    unknown = [k for k in state if k not in own]
    if other_shape:
        key = other_shape[0]
        return f"{key} is {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
    if missing:
        return f"it lacks {len(missing)} weights such as {missing[0]}"
    if unknown:
        return f"it has {len(unknown)} weights that the model lacks, such as {unknown[0]}"
    return None
