"""Parameter groups of a linear probe: one a learning rate."""

from __future__ import annotations

import copy

from mmengine.optim import OptimWrapper
from torch import nn

from msn_mm.errors import UserError
from msn_mm.models.heads.linear_heads import LinearHeads
from msn_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LinearHeadGroupsConstructor:
    """Give each head of :class:`~msn_mm.models.LinearProbe` its own learning rate.

    Args:
        optim_wrapper_cfg: ``type``, ``optimizer`` and further arguments of the wrapper.
        paramwise_cfg: Must be empty; the heads name their rates.

    Raises:
        UserError: If ``paramwise_cfg`` is given, or the model has no such heads.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise UserError(
                "optim_wrapper.paramwise_cfg has no effect with LinearHeadGroupsConstructor; "
                "remove it and set model.lr_scales"
            )
        self.wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))
        self.wrapper_cfg.setdefault("type", "GroupOptimWrapper")

    def __call__(self, model: nn.Module) -> OptimWrapper:
        heads = getattr(getattr(model, "module", model), "heads", None)
        if not isinstance(heads, LinearHeads):
            raise UserError(
                "LinearHeadGroupsConstructor is for model.type='LinearProbe'; choose another "
                "optim_wrapper.constructor"
            )
        lr = float(self.optimizer_cfg["lr"])
        groups = [
            {"name": f"lr x{scale:g}", "params": parameters, "lr": lr * scale}
            for scale, parameters in heads.parameters_by_lr()
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": groups})
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args={"optimizer": optimizer})
