"""Two processes for a test, which need not import everything again."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

# What takes seconds to import. Nothing of it computes on the way: a process that
# has (threads, autograd) is no good one to fork.
_PRELOAD = [
    "pytest",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "msn_mm.engine.launch",
    "msn_mm.engine.hooks",
    "msn_mm.datasets",
    "msn_mm.models",
    "msn_mm.evaluation",
]


def start_two(worker: Callable[..., None], *arguments: Any) -> None:
    """Run ``worker(rank, port, *arguments)`` in two fresh processes, and wait for both.

    They are forked from a server that has imported and done nothing else; it is started
    once a session. The port is free on this machine.

    Args:
        worker: A function of a module, for ranks 0 and 1.
        *arguments: What can be pickled.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload(_PRELOAD)
    mp.start_processes(worker, (port, *arguments), nprocs=2, start_method="forkserver")
