"""What a method asks of its loss, checked when it is built."""

from __future__ import annotations

from torch import nn

from msn_mm.errors import UserError


def check_loss(loss: nn.Module, method: str, *called: str) -> None:
    """Refuse a loss whose own arithmetic a method would never run.

    Args:
        loss: The loss module.
        method: The method's name, for the message.
        *called: What the method calls of it, in place of ``forward``.

    Raises:
        UserError: It has not all of these, or it overrides ``forward`` and none of these.
    """
    kind, wanted = type(loss).__name__, " and ".join(f"{name}()" for name in called)
    missing = [name for name in called if not callable(getattr(loss, name, None))]
    if missing:
        raise UserError(
            f"model.loss: {kind} has no {missing[0]}(); {method} trains by {wanted} of its loss: "
            "inherit from the method's own loss"
        )
    order = type(loss).__mro__
    # The class from which all that is called comes; those before it are the loss's own.
    own = next((i for i, c in enumerate(order) if any(n in vars(c) for n in called)), 0)
    parts = {n for c in order[:own] for n in vars(c) if not n.startswith("__")}
    if {n for n in parts if hasattr(order[own], n)} == {"forward"}:
        raise UserError(
            f"model.loss: {kind} overrides forward(), which {method} does not call; override "
            f"{' or '.join(f'{name}()' for name in called)}"
        )
