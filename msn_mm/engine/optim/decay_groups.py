"""Parameter groups: what is decayed, what is not, and the prototypes."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from msn_mm.errors import UserError
from msn_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

GROUPS = ("decay", "no_decay", "prototypes")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayGroupsConstructor:
    """Sort trainable parameters into at most three groups.

    Weight decay applies to everything but biases, other 1-D parameters and the
    prototypes. A few large groups keep the optimizer's fused step fast, where
    MMEngine's ``paramwise_cfg`` makes a group of every parameter.

    Args:
        optim_wrapper_cfg: ``type``, ``optimizer`` and further arguments of the wrapper.
        paramwise_cfg: Must be empty; the groups are fixed.

    Raises:
        UserError: If ``paramwise_cfg`` is given.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise UserError(
                f"optim_wrapper.paramwise_cfg has no effect with {type(self).__name__}; "
                "remove it, or set optim_wrapper.constructor='DefaultOptimWrapperConstructor'"
            )
        self.wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))
        self.wrapper_cfg.setdefault("type", "GroupOptimWrapper")

    def __call__(self, model: nn.Module) -> OptimWrapper:
        groups = self.groups(getattr(model, "module", model))
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": groups})
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args={"optimizer": optimizer})

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimizer's groups."""
        return decay_groups(model)


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the non-empty groups ``decay``, ``no_decay`` and ``prototypes``, in this order."""
    found: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        found[group_of(name, parameter.ndim)].append(parameter)
    groups: list[dict[str, Any]] = [
        {"name": "decay", "params": found["decay"]},
        {"name": "no_decay", "params": found["no_decay"], "weight_decay": 0.0},
        {"name": "prototypes", "params": found["prototypes"], "weight_decay": 0.0, "clip": False},
    ]
    return [group for group in groups if group["params"]]


def group_of(name: str, ndim: int) -> str:
    """Return which of :data:`GROUPS` a parameter belongs to."""
    if name.rpartition(".")[2] == "prototypes":
        return "prototypes"
    return "no_decay" if ndim <= 1 or name.endswith(".bias") else "decay"
