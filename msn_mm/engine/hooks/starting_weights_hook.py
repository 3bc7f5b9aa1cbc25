"""Start a training from a checkpoint of any known format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from msn_mm.convert.format import RawCheckpoint
from msn_mm.convert.runner_loading import LoadedCheckpoint
from msn_mm.engine.starting_weights import OptimizerStates, StartingWeights, starting_weights
from msn_mm.registry import HOOKS

_MOST = 8


@HOOKS.register_module()
class StartingWeightsHook(Hook):
    """Translate what ``load_from`` names into this model's weights and optimizer state.

    MMEngine loads by equal names and starts from random weights where no name
    is equal. The launcher adds this hook where a config or ``--load-from``
    names a checkpoint and nothing is resumed.
    """

    # Before the hooks that read a checkpoint of this project for a resume.
    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the model's own state dict in the place of the checkpoint's content."""
        if runner._resume or not isinstance(checkpoint, LoadedCheckpoint):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        optimizer = _optimizer_of(runner)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = [
            [names.get(id(parameter), "") for parameter in group["params"]]
            for group in (optimizer.param_groups if optimizer else [])
        ]
        found = starting_weights(checkpoint.raw, model, groups)
        if not isinstance(optimizer, torch.optim.Adam):
            found.ignored += ["optimizer"] if found.optimizer else []
            found.optimizer = {}
        else:
            _load_states(optimizer, groups, found.optimizer)
        here = model.state_dict()
        lines = report(found, checkpoint.raw, list(here))
        checkpoint.clear()
        # With all names there MMEngine has nothing to warn of.
        checkpoint["state_dict"] = {**here, **found.weights}
        for line in lines:
            runner.logger.info(line)


def report(found: StartingWeights, raw: RawCheckpoint, names: Iterable[str]) -> list[str]:
    """Tell what of a model is used from a checkpoint, initialised, and ignored; a line each.

    Args:
        found: What the model takes.
        raw: The checkpoint.
        names: All of the model's tensors.
    """
    every = Counter(map(_module, names))
    used = Counter(map(_module, found.weights))
    parts = [
        f"{m} {used[m]}" + (f" of {n}" if used[m] < n else "") for m, n in every.items() if used[m]
    ]
    if found.optimizer:
        parts.append(f"optimizer state of {len(found.optimizer)} parameters")
    fresh = [name for name in names if name not in found.weights]
    whole = [module for module in every if not used[module]]
    rest = [name for name in fresh if used[_module(name)]]
    lines = [
        f"starting from {raw.source}: format '{found.format}'",
        f"used (tensors): {', '.join(parts)}",
        f"initialised: {_some([*whole, *rest, *([] if found.optimizer else ['optimizer'])])}",
    ]
    if found.ignored:
        lines.append(f"ignored: {_some(found.ignored)}")
    return lines + [f"note: {note}" for note in found.notes]


def _module(name: str) -> str:
    """``head.projector`` of ``head.projector.0.weight``; a trunk's first part alone."""
    first, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    return f"{first}.{inner}" if "head" in first and inner else first


def _some(names: list[str]) -> str:
    few = ", ".join(names[:_MOST]) or "nothing"
    return few if len(names) <= _MOST else f"{len(names):,} tensors: {few}, ..."


def _optimizer_of(runner: Runner) -> torch.optim.Optimizer | None:
    wrapper = runner.optim_wrapper
    return wrapper.optimizer if isinstance(wrapper, OptimWrapper) else None


def _load_states(
    optimizer: torch.optim.Optimizer, groups: list[list[str]], states: OptimizerStates
) -> None:
    """Load states and leave the groups' settings, which are the new config's."""
    if not states:
        return
    content = optimizer.state_dict()
    for group, names in zip(content["param_groups"], groups, strict=True):
        for number, name in zip(group["params"], names, strict=True):
            if name in states:
                content["state"][number] = {k: v.clone() for k, v in states[name].items()}
    optimizer.load_state_dict(content)
