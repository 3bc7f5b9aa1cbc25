"""A launch whose numbers contradict each other ends at once, in one line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from msn_mm.engine import distributed
from msn_mm.engine.distributed import init_distributed
from msn_mm.engine.launch_checks import check_alone, check_place, check_step
from msn_mm.errors import UserError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_WORLD_SIZE": "2",
}
STEP = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}


def test_a_right_launch_passes() -> None:
    assert check_place(TORCHRUN) == (8, 5, 1, 4)
    # Three machines with 4, 3 and 1 processes.
    assert check_place({**TORCHRUN, "GROUP_WORLD_SIZE": "3"}) == (8, 5, 1, 4)
    assert check_place({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}) == (2, 1, 1, 2)
    check_step(STEP)
    check_step({})
    # A batch script's own process, not started by srun.
    check_alone({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"})
    check_alone({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"})
    check_alone({"WORLD_SIZE": "8"})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"RANK": "8"}, "RANK=8 with WORLD_SIZE=8: ranks go from 0 to 7"),
        ({"RANK": "-1"}, "RANK='-1' in the environment is no number of at least 0"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment is no number"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4 does not fit RANK=5 and LOCAL_WORLD_SIZE=4"),
        ({"GROUP_WORLD_SIZE": "1"}, "WORLD_SIZE=8, but 4 processes run on this machine: unset"),
        ({"GROUP_WORLD_SIZE": "9"}, "WORLD_SIZE=8, but 4 processes run on this machine, one of 9"),
        ({"LOCAL_WORLD_SIZE": "16"}, "WORLD_SIZE=8, but 16 processes run on this machine"),
    ],
)
def test_a_contradiction_is_told(changed: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_place({**TORCHRUN, **changed})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SLURM_STEP_NUM_TASKS": "2"}, "srun started 2 tasks, but SLURM_NTASKS is 4"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, "srun started 1 task, but SLURM_NTASKS is 4"),
    ],
)
def test_another_number_of_tasks_is_told(environ: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_step({**STEP, **environ})


def test_a_process_that_srun_did_not_start_waits_for_nobody() -> None:
    with pytest.raises(UserError, match="4 tasks, but srun did not start this process"):
        check_step({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"})


def test_tasks_of_srun_do_not_train_alone() -> None:
    with pytest.raises(UserError, match=r"srun started 4 tasks, .* add --launcher slurm"):
        check_alone(STEP)
    with pytest.raises(UserError, match=r"torchrun started 2 processes, .* --launcher pytorch"):
        check_alone({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that nobody listens at, and the environment of the first of two processes."""
    for name in list(os.environ):
        if name.startswith(("SLURM", "TORCHELASTIC", "GROUP_", "LOCAL_WORLD")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**place, "MASTER_PORT": str(number)}.items():
        monkeypatch.setenv(name, value)
    yield number
    assert not dist.is_initialized()


def test_a_port_that_is_taken_is_told(port: int) -> None:
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        with pytest.raises(UserError, match=f"port {port} of this machine is taken"):
            init_distributed("pytorch")


def test_processes_that_never_come_are_counted(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "JOIN_S", 1.0)
    with pytest.raises(UserError, match=f"only 1 of 2 processes came to 127.0.0.1:{port} within"):
        init_distributed("pytorch")


def test_a_launch_without_an_address_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(UserError, match="the environment has no MASTER_PORT"):
        init_distributed("pytorch")


def test_the_group_s_timeout_is_the_one_asked_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    init_distributed("pytorch", timeout_s=77.0)
    try:
        backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout.total_seconds() == 77.0
    finally:
        dist.destroy_process_group()
    assert distributed.TIMEOUT_S < 1800  # gloo's own
