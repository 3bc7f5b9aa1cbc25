"""State of Adam in a checkpoint, by the names of the weights that it belongs to.

torch numbers an optimizer's parameters through its groups and saves no names. Whoever
knows how the groups were made can tell which weight each number is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# What Adam and AdamW keep of each parameter.
ADAM = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")
# Numbers of one setting, such as the two betas.
_MOST = 16
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def trainable(names: Iterable[str]) -> list[str]:
    """Return a state dict's names without those of batch norm's statistics, in their order."""
    return [name for name in names if name.rpartition(".")[2] not in _BUFFERS]


def adam_states(
    saved: Any, groups: Sequence[Sequence[str]], shapes: Mapping[str, torch.Size]
) -> dict[str, dict[str, Tensor]]:
    """Name the states of a saved Adam.

    Args:
        saved: ``state_dict()`` of the optimizer, as it lies in a checkpoint.
        groups: Names of the parameters of each of its groups, in their order.
        shapes: Shapes of the parameters.

    Returns:
        States by the parameter's name: moments of its shape, and ``step`` as a
        number in a tensor. Empty when ``saved`` is no Adam's or does not fit
        groups and shapes; a parameter without a state is left out.
    """
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
        return {}
    numbered = saved.get("param_groups")
    if not isinstance(numbered, list) or len(numbered) != len(groups):
        return {}
    found: dict[str, dict[str, Tensor]] = {}
    for group, names in zip(numbered, groups, strict=True):
        numbers = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(numbers, list) or len(numbers) != len(names):
            return {}
        for number, name in zip(numbers, names, strict=True):
            state = saved["state"].get(number) if isinstance(number, int) else None
            if state is None:
                continue
            if not isinstance(state, Mapping) or not set(state) <= set(ADAM):
                return {}
            if not all(isinstance(v, Tensor | int | float) for v in state.values()):
                return {}
            own = {
                k: v if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in state.items()
            }
            moments = [v for k, v in own.items() if k != "step"]
            if len(moments) < 2 or any(v.shape != shapes[name] for v in moments):
                return {}
            found[name] = own
    return found


def group_settings(saved: Any) -> list[dict[str, Any]]:
    """Return the plain settings of each group of a saved optimizer: rates, decay, ..."""
    groups = saved.get("param_groups") if isinstance(saved, Mapping) else None
    if not isinstance(groups, list):
        return []
    return [
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in group.items()
            if isinstance(key, str) and key != "params" and _is_setting(value)
        }
        for group in groups
        if isinstance(group, Mapping)
    ]


def _is_setting(value: Any) -> bool:
    """Whether a value is plain, or a few numbers in a row; nested ones grow without end."""
    if isinstance(value, tuple | list):
        return len(value) <= _MOST and all(type(item) in (int, float, bool) for item in value)
    return isinstance(value, bool | int | float | str | None)
