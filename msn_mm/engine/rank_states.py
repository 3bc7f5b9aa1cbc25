"""What every process of a run must save for itself, brought to the one that writes."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from mmengine.dist import get_dist_info


def gather_states(own: Any) -> list[Any] | None:
    """Return each rank's object in the first process, ``None`` in the others; all must call.

    The first rank's own object does not travel: an exchange of objects makes
    room for the largest one on behalf of every rank.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return [own]
    gathered: list[Any] | None = [None] * world_size if rank == 0 else None
    dist.gather_object(None if rank == 0 else own, gathered, dst=0)
    if gathered is not None:
        gathered[0] = own
    return gathered


def state_of_rank(states: list[Any]) -> Any:
    """Return this rank's object of a saved list; ranks beyond its end begin it again."""
    return states[get_dist_info()[0] % len(states)]
