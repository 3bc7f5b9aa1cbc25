"""Hooks whose memory belongs to a checkpoint.

A hook takes part by two methods. ``state_dict()`` returns what this process
knows, in plain types and tensors of the host, and changes nothing;
``load_state_dict(state)`` takes it back, after ``before_train`` and, within an
epoch, after ``before_train_epoch``. Every process saves and gets its own; what
the first process alone needs, it alone should return.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook


def hook_states(hooks: Iterable[Hook]) -> dict[str, Any]:
    """Return the state of each hook that has one, by class name (the second: ``Name_2``)."""
    return {name: hook.state_dict() for name, hook in _with_state(hooks)}


def load_hook_states(hooks: Iterable[Hook], states: Mapping[str, Any]) -> None:
    """Give each hook its state; one that the checkpoint does not know begins anew."""
    for name, hook in _with_state(hooks):
        if name in states:
            hook.load_state_dict(states[name])


def _with_state(hooks: Iterable[Hook]) -> Iterator[tuple[str, Any]]:
    met: Counter[str] = Counter()
    for hook in hooks:
        if hasattr(hook, "state_dict") and hasattr(hook, "load_state_dict"):
            name = type(hook).__name__
            met[name] += 1
            yield (name if met[name] == 1 else f"{name}_{met[name]}"), hook
