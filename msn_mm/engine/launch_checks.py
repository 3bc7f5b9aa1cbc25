"""Does the number of processes fit what started them? A wrong launch ends at once.

Otherwise each of several processes would train alone and write over the
others' files, or a process would wait for others that nobody starts.
"""

from __future__ import annotations

from collections.abc import Mapping

from msn_mm.errors import UserError

# Set by srun for the tasks that it starts, not in a batch script.
_SRUN = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE")


def check_alone(environ: Mapping[str, str]) -> None:
    """Check that a process without a launcher is the only one.

    Raises:
        UserError: when torchrun or srun started it as one of several.
    """
    torchrun = _count(environ, "WORLD_SIZE", 1) if "TORCHELASTIC_RUN_ID" in environ else 1
    if torchrun > 1:
        raise UserError(
            f"torchrun started {torchrun} processes, but each would train alone: add "
            "--launcher pytorch"
        )
    srun = _count(environ, "SLURM_STEP_NUM_TASKS", 1)
    # A torchrun of a single process may itself be one of several tasks of srun.
    if srun > 1:
        raise UserError(
            f"srun started {srun} tasks, but each would train alone: add --launcher slurm, or "
            "start one task (srun --ntasks 1)"
        )


def check_step(environ: Mapping[str, str]) -> None:
    """Check that srun started as many tasks as the job's environment promises.

    Raises:
        UserError: when the process is no task of srun though it should be one of
            several, or srun started another number.
    """
    promised = _count(environ, "SLURM_NTASKS", 1)
    if promised > 1 and not any(name in environ for name in _SRUN):
        raise UserError(
            f"--launcher slurm with {promised} tasks, but srun did not start this process: put "
            "srun before python, or use tools/slurm_train.sh"
        )
    started = _count(environ, "SLURM_STEP_NUM_TASKS", promised)
    if started != promised:
        raise UserError(
            f"srun started {started} task{'s' if started > 1 else ''}, but SLURM_NTASKS is "
            f"{promised}: give srun --ntasks {promised}, or unset SLURM_NTASKS"
        )


def check_place(environ: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Read this process's place among the others and check that it can be true.

    Args:
        environ: with ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and, from torchrun,
            ``LOCAL_WORLD_SIZE`` and ``GROUP_WORLD_SIZE`` (number of machines).

    Returns:
        Number of processes, rank, rank on this machine, processes on this machine.

    Raises:
        UserError: when a number is none, lies outside its range, or the numbers
            contradict each other.
    """
    size = _count(environ, "WORLD_SIZE", 1)
    rank = _count(environ, "RANK", 0, least=0)
    local_rank = _count(environ, "LOCAL_RANK", 0, least=0)
    local_size = _count(environ, "LOCAL_WORLD_SIZE", min(local_rank + 1, size))
    machines = _count(environ, "GROUP_WORLD_SIZE", 0, least=0)
    if rank >= size:
        raise UserError(
            f"RANK={rank} with WORLD_SIZE={size}: ranks go from 0 to {size - 1}; set WORLD_SIZE to "
            "the number of processes over all machines"
        )
    if local_rank >= local_size or local_rank > rank:
        raise UserError(
            f"LOCAL_RANK={local_rank} does not fit RANK={rank} and LOCAL_WORLD_SIZE={local_size}: "
            "start with tools/dist_train.sh CONFIG NPROC"
        )
    # Machines may hold different numbers of processes, each at least one.
    fits = size == local_size if machines == 1 else size >= local_size + max(machines - 1, 0)
    if not fits:
        raise UserError(
            f"WORLD_SIZE={size}, but {local_size} processes run on this machine"
            + (f", one of {machines}" if machines > 1 else "")
            + ": unset WORLD_SIZE and start with tools/dist_train.sh CONFIG NPROC"
        )
    return size, rank, local_rank, local_size


def _count(environ: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    text = environ.get(name)
    if text is None:
        return default
    if not text.strip().isdecimal() or int(text) < least:
        raise UserError(f"{name}='{text}' in the environment is no number of at least {least}")
    return int(text)
