"""LARS: a learning rate for each layer, from the lengths of its weights and gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from msn_mm.engine.optim.decay_groups import DecayGroupsConstructor, decay_groups
from msn_mm.models.ops.distributed import local_part
from msn_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Momentum SGD in which a layer's step is as long as its weights allow.

    ``v <- momentum * v + lr * r * (g + weight_decay * w)``, ``w <- w - v``, with
    ``r = eta * |w| / (|g| + weight_decay * |w|)`` (1 where a length is 0). Groups with
    ``lars_exclude`` take ``r = 1``. Source: You et al. 2017, arXiv 1708.03888, algorithm 1.

    mmpretrain's optimizer of this name has the same arithmetic and state, and reads
    two lengths a layer back to the host, each a wait for the device; this one reads none.
    Of sharded weights the length is that of the whole. Where the attribute
    ``found_inf``, a scalar on the device, is there and not 0, a step changes neither
    weights nor momenta, as in torch's fused optimizers.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        momentum: Weight of the step before.
        weight_decay: Weight of the weights in the gradient.
        eta: The trust coefficient.
        eps: Added to the divisor.

    Raises:
        ValueError: If a number is negative.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eta: float = 0.001,
        eps: float = 1e-8,
    ) -> None:
        numbers = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, eta=eta)
        for name, value in {**numbers, "eps": eps}.items():
            if value < 0:
                raise ValueError(f"LARS's {name} is {value}; it must not be negative")
        self.eps = eps
        super().__init__(params, numbers)

    takes_found_inf = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Computes the loss anew and returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if trained:
                self._step(group, trained, getattr(self, "found_inf", None))
        return loss

    def _step(self, group: dict[str, Any], trained: list[Tensor], found_inf: Any = None) -> None:
        decay, momentum = group["weight_decay"], group["momentum"]
        gradients = [p.grad for p in trained if p.grad is not None]
        weights = [local_part(p.detach()) for p in trained]
        steps = list(torch._foreach_add([local_part(g) for g in gradients], weights, alpha=decay))
        if not group.get("lars_exclude", False):
            w, g = _lengths(trained), _lengths(gradients)
            ratio = group["eta"] * w / (g + decay * w + self.eps)
            ratio = torch.where((w > 0) & (g > 0), ratio, 1.0)
            torch._foreach_mul_(steps, list(ratio.unbind()))
        torch._foreach_mul_(steps, group["lr"])
        taken = None if found_inf is None else found_inf == 0
        if taken is not None:
            # Chosen, not multiplied: what is not finite times 0 is not 0.
            steps = [torch.where(taken, step, 0.0) for step in steps]
        if momentum:
            buffers = []
            for parameter in trained:
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffers.append(local_part(state["momentum_buffer"]))
            torch._foreach_mul_(buffers, _kept(momentum, taken, buffers[0]))
            torch._foreach_add_(buffers, steps)
            steps = buffers if taken is None else list(torch._foreach_mul(buffers, taken))
        torch._foreach_sub_(weights, steps)


def _kept(momentum: float, taken: Tensor | None, like: Tensor) -> float | Tensor:
    """Return what a momentum buffer is multiplied by: 1 where the step is not taken."""
    if taken is None:
        return momentum
    # Filled on the device: a number that is copied there waits for it.
    return torch.where(taken, torch.full((), momentum, dtype=like.dtype, device=like.device), 1.0)


def _lengths(tensors: list[Tensor]) -> Tensor:
    """Euclidean lengths ``(n,)`` of n tensors, on their device; of shards those of the whole."""
    norms = torch._foreach_norm([tensor.detach() for tensor in tensors])
    return torch.stack([n.full_tensor() if hasattr(n, "full_tensor") else n for n in norms])


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LARSGroupsConstructor(DecayGroupsConstructor):
    """The groups of its parent; those without weight decay go without LARS's rate as well.

    So does BYOL with biases and batch norms (arXiv 2006.07733, section 3.3), and SimCLR
    in its authors' code (https://github.com/google-research/simclr).
    """

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimizer's groups."""
        return [
            {**group, "lars_exclude": True} if group.get("weight_decay") == 0.0 else group
            for group in decay_groups(model)
        ]
