"""A process of several leaves with its own status, whatever the others are waiting for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Rank 0 fails in the middle of an exchange that rank 1 never joins.
SCRIPT = """
import atexit, datetime, sys, time
import torch, torch.distributed as dist
from msn_mm.errors import UserError
from msn_mm.utils.cli import run_tool

def main(argv):
    # What is behind this point ends in SIGABRT now and then: the group's threads still run.
    atexit.register(print, "the interpreter's end", file=sys.stderr)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=300))
    if dist.get_rank() == 0:
        work = dist.all_reduce(torch.ones(1), async_op=True)
        time.sleep(0.5)
        raise {"mistake": UserError("a mistake"), "bug": ZeroDivisionError("a bug")}[sys.argv[1]]
    sys.stdin.read()  # until the test has seen the other one leave
    return 0

run_tool(main)
"""


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [("mistake", 2, "error: a mistake"), ("bug", 1, "ZeroDivisionError: a bug")],
)
def test_a_failure_amid_an_exchange_keeps_its_status(failure: str, status: int, said: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, failure],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        _, errors = ranks[0].communicate(timeout=60)
        assert ranks[0].returncode == status, errors
        assert said in errors and "the interpreter's end" not in errors
    finally:
        for process in ranks:
            process.kill()
            process.wait()


# A runner is full of cycles, and a vote's tensor hangs on one.
CYCLE = """
import gc
import torch.distributed as dist
from msn_mm.utils.cli import run_tool

class Runner:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("dropped while the group", "lives" if dist.is_initialized() else "is gone")

def main(argv):
    gc.disable()
    dist.init_process_group("gloo")
    Runner()
    return 0

run_tool(main)
"""


def test_what_a_tool_leaves_is_dropped_before_the_group() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environ = {**os.environ, **place, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", CYCLE], env=environ, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "dropped while the group lives\n"
