"""Parameter groups for layer-wise decay of the learning rate."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from torch import nn

from msn_mm.engine.optim.decay_groups import group_of
from msn_mm.errors import UserError
from msn_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_RATE = "layer_decay_rate"
# Beside biases and other 1-D parameters: what a ViT adds to its tokens.
_NOT_DECAYED = ("cls_token", "reg_token", "pos_embed")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Give each layer of a classifier its own learning rate, in two groups at most.

    Of ``n`` layers, number ``l`` learns at ``lr * layer_decay_rate ** (n - 1 - l)``,
    so the head, which is the last, at ``lr``. Weight decay applies to everything
    but biases, other 1-D parameters, class tokens and positions. mmpretrain's
    ``LearningRateDecayOptimWrapperConstructor`` asks a model the same question
    (``get_layer_depth``) and makes a group of every parameter.

    Args:
        optim_wrapper_cfg: ``type``, ``optimizer`` and further arguments of the wrapper.
        paramwise_cfg: ``layer_decay_rate``, in (0, 1]; 1, the default, is one rate for all.

    Raises:
        UserError: If ``paramwise_cfg`` has another key or the rate is impossible.

    Source: Bao et al. 2022, arXiv 2106.08254; He et al. 2021, arXiv 2111.06377.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        given = dict(paramwise_cfg or {})
        rate = given.pop(_RATE, 1.0)
        if given:
            raise UserError(
                f"optim_wrapper.paramwise_cfg has '{next(iter(given))}'; LayerDecayConstructor "
                f"takes {_RATE} alone"
            )
        if not isinstance(rate, int | float) or not 0.0 < rate <= 1.0:
            raise UserError(f"optim_wrapper.paramwise_cfg.{_RATE} is {rate}; it must lie in (0, 1]")
        self.rate = float(rate)
        self.wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))
        self.wrapper_cfg.setdefault("type", "GroupOptimWrapper")

    def __call__(self, model: nn.Module) -> OptimWrapper:
        groups = layer_groups(
            getattr(model, "module", model), float(self.optimizer_cfg["lr"]), self.rate
        )
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": groups})
        logger = MMLogger.get_current_instance()
        for line in layer_table(groups):
            logger.info(line)
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args={"optimizer": optimizer})


def layer_groups(model: nn.Module, lr: float, rate: float) -> list[dict[str, Any]]:
    """Return a model's trainable parameters by layer, those without decay by themselves.

    Args:
        model: One with ``get_layer_depth``, unless the rate is 1.
        lr: Learning rate of the last layer.
        rate: The decay from a layer to the one before it.

    Returns:
        Groups with ``name``, ``layer``, ``lr_scale``, ``lr`` and, where nothing is
        decayed, ``weight_decay`` 0; the first layer's first.
    """
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, layers = (0, 1) if rate == 1.0 else model.get_layer_depth(name)  # type: ignore[operator]
        decayed = group_of(name, parameter.ndim) == "decay" and not name.endswith(_NOT_DECAYED)
        group = found.setdefault((layer, not decayed), {"params": []})
        if not group["params"]:
            scale = rate ** (layers - 1 - layer)
            kind = "decay" if decayed else "no_decay"
            group |= {"name": f"layer_{layer}_{kind}", "layer": layer}
            group |= {"lr_scale": scale, "lr": lr * scale}
            group |= {} if decayed else {"weight_decay": 0.0}
        group["params"].append(parameter)
    return [found[key] for key in sorted(found)]


def layer_table(groups: list[dict[str, Any]]) -> list[str]:
    """Return a line a layer: its number, learning rate, factor and number of parameters."""
    layers: dict[int, list[dict[str, Any]]] = {}
    for group in groups:
        layers.setdefault(group["layer"], []).append(group)
    lines = [f"{'layer':>5}  {'learning rate':>13}  {'factor':>9}  {'parameters':>11}"]
    for layer, own in layers.items():
        count = sum(parameter.numel() for group in own for parameter in group["params"])
        lines.append(f"{layer:>5}  {own[0]['lr']:>13.4g}  {own[0]['lr_scale']:>9.4g}  {count:>11,}")
    return lines


def layer_rates(wrapper: Any) -> list[dict[str, float]]:
    """Return the layers of an optimizer that :class:`LayerDecayConstructor` made.

    Returns:
        ``layer``, ``lr`` (the highest of the schedule) and ``factor`` a layer; nothing
        for another constructor's groups.
    """
    # What they learn at: a resumed optimizer has the other settings of its checkpoint.
    rates = {
        group["layer"]: float(group.get("initial_lr", group["lr"]))
        for group in wrapper.param_groups
        if "layer" in group
    }
    return [
        {"layer": layer, "lr": rates[layer], "factor": rates[layer] / rates[max(rates)]}
        for layer in sorted(rates)
    ]
