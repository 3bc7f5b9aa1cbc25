"""Start the process group: NCCL on GPUs, gloo on a machine without one."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from mmengine.dist import broadcast_object_list, is_main_process
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.launch_checks import check_alone, check_place, check_step
from msn_mm.errors import UserError
from msn_mm.utils.lost_process import join_failure, telling_lost_process

T = TypeVar("T")

LAUNCHERS = ("none", "pytorch", "slurm")
# A rank may wait for another that evaluates or saves alone; one that died without
# a word (its machine lost power) must still end the run. gloo's own default is
# 30 minutes, NCCL's 10.
TIMEOUT_S = 900.0
# How long the processes of a launch wait for each other to come.
JOIN_S = 300.0
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


def collective_timeout(cfg: Mapping[str, Any]) -> float:
    """Return how many seconds a config lets a collective operation wait for a process."""
    return float(((cfg.get("env_cfg") or {}).get("dist_cfg") or {}).get("timeout", TIMEOUT_S))


def init_distributed(launcher: str, timeout_s: float = TIMEOUT_S) -> World:
    """Join the process group that ``launcher`` describes in the environment.

    Args:
        launcher: ``none`` (one process), ``pytorch`` (the variables that
            torchrun sets) or ``slurm`` (those of srun).
        timeout_s: seconds after which a collective that a rank never joins
            fails instead of waiting on.

    Raises:
        UserError: when the environment does not belong to the launcher, its
            numbers contradict each other, a machine with GPUs was given more
            processes than it has GPUs, the port is taken, or the other processes
            do not come.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f"launcher must be one of {', '.join(LAUNCHERS)}, not '{launcher}'")
    gpus = torch.cuda.device_count()
    if launcher == "none":
        check_alone(os.environ)
        return World(device=_own_device(gpus))
    if launcher == "slurm":
        os.environ.update(slurm_environment(os.environ))
    missing = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name not in os.environ]
    if missing:
        raise UserError(
            f"--launcher {launcher}, but the environment has no {missing[0]}: start with "
            "tools/dist_train.sh CONFIG NPROC (it calls torchrun)"
        )
    size, rank, local_rank, local_size = check_place(os.environ)
    device = choose_device(
        local_rank, local_size, gpus, own_gpu="SLURM_GPUS_PER_TASK" in os.environ
    )
    if not dist.is_initialized():
        _join(size, rank, device, timeout_s)
    return World(size, rank, local_rank, device)


def _own_device(gpus: int) -> torch.device:
    """Return where a process by itself computes, which is where MMEngine's runner puts a model."""
    if gpus:
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _join(size: int, rank: int, device: torch.device, timeout_s: float) -> None:
    """Meet the other processes and make the process group, its timeouts set explicitly.

    Processes come within minutes of each other or not at all, so the meeting
    has a shorter wait of its own.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    wait_s = min(timeout_s, JOIN_S)
    try:
        meeting = dist.rendezvous("env://", rank, size, timeout=timedelta(seconds=wait_s))
        store, rank, size = next(meeting)
        store.set_timeout(timedelta(seconds=timeout_s))
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore(f"msn_mm/{_attempt(os.environ)}", store),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
            device_id=device if on_gpu else None,
        )
    except (ValueError, RuntimeError) as error:
        address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
        if not address or not port:
            name = "MASTER_PORT" if address else "MASTER_ADDR"
            raise UserError(
                f"the environment has no {name}: start with tools/dist_train.sh CONFIG NPROC, or "
                "set it to that of the machine with rank 0"
            ) from error
        line = join_failure(error, address, port, wait_s)
        if line is not None:
            raise UserError(line) from error
        with telling_lost_process(rank, size):
            raise


def _attempt(environ: Mapping[str, str]) -> str:
    """Return a word that the keys of this start of the processes begin with.

    torchrun's store outlives its processes and still holds the addresses of
    those that died (pytorch/pytorch#135712). Over several machines the count of
    restarts may differ, so msn_mm.utils.torchrun gives each start its own store.
    """
    one = environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return environ.get("TORCHELASTIC_RESTART_COUNT", "0") if one else "0"


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
        UserError: outside of a Slurm step, or in one with another number of tasks.
    """
    needed = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    missing = [name for name in needed if name not in environ]
    if missing:
        raise UserError(
            f"--launcher slurm, but the environment has no {missing[0]}: start with "
            "tools/slurm_train.sh PARTITION JOB CONFIG (it calls srun)"
        )
    check_step(environ)
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


def decided_by_first(decide: Callable[[], T]) -> T:
    """Return what the first process decides, on all processes; all must call.

    Args:
        decide: called on the first process alone; returns what can be pickled.

    Raises:
        UserError: on all processes, when ``decide`` raised one.
        RuntimeError: on the other processes, when it raised something else,
            which the first process raises itself.
    """
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if is_main_process():
        try:
            outcome[0] = decide()
        except Exception as error:  # the others wait for an answer in any case
            failure = error
            outcome[1] = (isinstance(error, UserError), str(error))
    broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        told, text = outcome[1]
        raise UserError(text) if told else RuntimeError(f"the first process failed: {text}")
    decision: T = outcome[0]
    return decision
