"""Start the process group: NCCL on GPUs, gloo on a machine without one."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from msn_mm.errors import UserError

LAUNCHERS = ("none", "pytorch", "slurm")
# A rank may wait for another that evaluates alone; a dead rank must still end the run.
TIMEOUT_S = 1800.0
# Newer releases of torch have given the argument a new name and warn of the old one.
_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)


@dataclass(frozen=True)
class World:
    """This process's place among the processes of a run.

    Attributes:
        size: number of processes.
        rank: number of this process among all.
        local_rank: number of this process on its machine.
        device: where this process computes.
    """

    size: int = 1
    rank: int = 0
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def wrapper_cfg(self) -> dict[str, Any]:
        """Return MMEngine's ``model_wrapper_cfg`` for this process.

        No buffer travels between the ranks: the running statistics of batch
        norm are computed over all of them already.
        """
        on_gpu = self.device.type == "cuda"
        return dict(
            type="MMDistributedDataParallel",
            device_ids=[self.device.index] if on_gpu else None,
            **{_BUFFERS: False},
        )


def init_distributed(launcher: str, timeout_s: float = TIMEOUT_S) -> World:
    """Join the process group that ``launcher`` describes in the environment.

    Args:
        launcher: ``none`` (one process), ``pytorch`` (the variables that
            torchrun sets) or ``slurm`` (those of srun).
        timeout_s: seconds after which a collective that a rank never joins
            fails instead of waiting on.

    Raises:
        UserError: when the environment does not belong to the launcher, or a
            machine with GPUs was given more processes than it has GPUs.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f"launcher must be one of {', '.join(LAUNCHERS)}, not '{launcher}'")
    gpus = torch.cuda.device_count()
    if launcher == "none":
        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                f"torchrun started {os.environ['WORLD_SIZE']} processes, but each would train "
                "alone: add --launcher pytorch"
            )
        return World(device=torch.device("cuda", 0) if gpus else torch.device("cpu"))
    if launcher == "slurm":
        os.environ.update(slurm_environment(os.environ))
    missing = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name not in os.environ]
    if missing:
        raise UserError(
            f"--launcher {launcher}, but the environment has no {missing[0]}: start with "
            "tools/dist_train.sh CONFIG NPROC (it calls torchrun)"
        )
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    local_rank = int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
    device = choose_device(
        local_rank, local_size, gpus, own_gpu="SLURM_GPUS_PER_TASK" in os.environ
    )
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
            device_id=device if device.type == "cuda" else None,
        )
    return World(size, rank, local_rank, device)


def choose_device(
    local_rank: int, local_size: int, gpus: int, own_gpu: bool = False
) -> torch.device:
    """Return the device of one process of a machine.

    Args:
        local_rank: number of the process on its machine.
        local_size: processes on that machine.
        gpus: GPUs that this process sees.
        own_gpu: the scheduler shows each process one GPU of its own.

    Raises:
        UserError: on a machine with fewer GPUs than processes.
    """
    if gpus == 0:
        return torch.device("cpu")
    if own_gpu and gpus == 1:
        return torch.device("cuda", 0)
    if max(local_size, local_rank + 1) > gpus:
        raise UserError(
            f"{local_size} processes on a machine with {gpus} GPU{'s' if gpus > 1 else ''}: start "
            f"at most {gpus} here, or set CUDA_VISIBLE_DEVICES= to train on the CPU with gloo"
        )
    return torch.device("cuda", local_rank)


def slurm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return torch's distributed variables for a task that ``srun`` started.

    The port follows the job's number, so that two jobs on a machine do not
    meet; ``MASTER_ADDR`` and ``MASTER_PORT`` that are set already stay.

    Raises:
        UserError: outside of a Slurm step.
    """
    needed = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    missing = [name for name in needed if name not in environ]
    if missing:
        raise UserError(
            f"--launcher slurm, but the environment has no {missing[0]}: start with "
            "tools/slurm_train.sh PARTITION JOB CONFIG (it calls srun)"
        )
    found = {
        "RANK": environ["SLURM_PROCID"],
        "WORLD_SIZE": environ["SLURM_NTASKS"],
        "LOCAL_RANK": environ["SLURM_LOCALID"],
    }
    # "4(x2),3" reads: 4 tasks on each of the first two machines, then 3.
    per_node = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE", "")
    counts = [
        int(count)
        for count, repeat in re.findall(r"(\d+)(?:\(x(\d+)\))?", per_node)
        for _ in range(int(repeat or 1))
    ]
    node = int(environ.get("SLURM_NODEID", "0"))
    if node < len(counts):
        found["LOCAL_WORLD_SIZE"] = str(counts[node])
    if "MASTER_ADDR" not in environ:
        found["MASTER_ADDR"] = _first_host(environ)
    if "MASTER_PORT" not in environ:
        found["MASTER_PORT"] = str(20000 + int(environ.get("SLURM_JOB_ID", "9500")) % 20000)
    return found


def _first_host(environ: Mapping[str, str]) -> str:
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_NODELIST", "")
    if nodes and not set("[],") & set(nodes):
        return nodes
    try:
        listed = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"cannot list the hosts of '{nodes}' by scontrol ({error}): set MASTER_ADDR"
        ) from error
    return listed.stdout.split()[0]
