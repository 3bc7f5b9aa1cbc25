"""A rank dies: the run ends with a line that names it, or starts again and goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_tools import ROOT, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from toy_training import write_config

from msn_mm.engine import checkpointing
from msn_mm.engine.checkpointing import RUN, SAVED_AT
from msn_mm.engine.distributed import decided_by_first
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.engine.restart import LAUNCHED_AT, resume_of_restart, run_ids, settle_resume
from msn_mm.errors import UserError
from msn_mm.utils.lost_process import LostProcess, join_failure, telling_lost_process
from msn_mm.utils.torchrun import TellingAgent, death_lines, exit_status, stop_seconds, stop_status

DIST = ("bash", ROOT / "tools" / "dist_train.sh")
DIES = """
custom_imports["imports"].append("dying_rank")
custom_hooks.append(dict(type="DieHook", steps={steps}))
train_cfg = dict(by_epoch=True, max_epochs=3)
"""


def test_a_killed_rank_ends_the_run_and_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, DIES.format(steps=[5]))
    begin = time.monotonic()
    ended = run([*DIST, config, "2", "--out", "out"], tmp_path)
    assert time.monotonic() - begin < 60
    assert ended.returncode == 128 + signal.SIGKILL
    line = f"error: rank 1 of 2 on {socket.gethostname()} was ended by SIGKILL"
    told = [words for words in ended.stderr.splitlines() if words.startswith(line)]
    assert len(told) == 1, ended.stderr
    assert "ChildFailedError" not in ended.stderr
    # What was saved before stays; the second epoch never ended.
    saved = sorted(path.name for path in (tmp_path / "out").glob("*.pth"))
    assert saved == ["epoch_1.pth"]
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_with_a_restart_left_the_run_goes_on_by_itself(tmp_path: Path) -> None:
    config = write_config(tmp_path, DIES.format(steps=[5]))
    ended = run([*DIST, config, "2", "--out", "out", "--max-restarts", "1"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "was ended by SIGKILL" in ended.stderr
    assert "starting all processes again (1 restart left)" in ended.stderr
    assert "restart 1: going on from epoch_1.pth" in ended.stdout
    saved = torch.load(tmp_path / "out" / "epoch_3.pth", weights_only=True)
    assert saved["meta"]["iter"] == 12


@pytest.mark.slow
def test_after_two_deaths_the_weights_are_those_of_a_run_without(tmp_path: Path) -> None:
    whole = write_config(tmp_path, DIES.format(steps=[]))
    ended = run([*DIST, whole, "2", "--out", "a"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    # Killed before the first checkpoint, then after it.
    dies = write_config(tmp_path, DIES.format(steps=[2, 5]), "dies.py")
    ended = run([*DIST, dies, "2", "--out", "b"], tmp_path, {"MAX_RESTARTS": "2"})
    assert ended.returncode == 0, ended.stderr
    assert "restart 1: no whole checkpoint of this run yet, starting from scratch" in ended.stdout
    assert "restart 2: going on from epoch_1.pth" in ended.stdout
    a, b = (torch.load(tmp_path / d / "epoch_3.pth", weights_only=True) for d in "ab")
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name


def test_the_number_of_restarts_must_be_one(tmp_path: Path) -> None:
    ended = run([*DIST, "toy.py", "2", "--max-restarts", "some"], tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: MAX_RESTARTS or --max-restarts must be a whole number")


def saved_by(path: Path, environ: dict[str, str], saved_at: float) -> Path:
    """A checkpoint of the run that ``environ`` names."""
    meta = {"epoch": 7, "iter": 28, RUN: run_ids(environ), SAVED_AT: saved_at}
    torch.save({"meta": meta, "state_dict": {}, "optimizer": {}, "message_hub": {}}, path)
    return path


def test_a_restart_takes_only_what_the_run_itself_wrote(tmp_path: Path) -> None:
    first = {LAUNCHED_AT: "100.5", "SLURM_JOB_ID": "7"}
    environ = {"TORCHELASTIC_RESTART_COUNT": "2", **first}
    assert resume_of_restart(tmp_path, "old.pth", environ={}) == ("old.pth", [])
    path = saved_by(tmp_path / "epoch_7.pth", first, 1000.0)
    found, said = resume_of_restart(tmp_path, False, environ=environ)
    assert (found, said) == (path, ["restart 2: going on from epoch_7.pth"])
    # The run was told to start from a checkpoint; its own newer one counts.
    assert resume_of_restart(tmp_path, "old.pth", environ=environ)[0] == path
    # What another run saved later, and what is torn, is passed by.
    saved_by(tmp_path / "epoch_8.pth", {LAUNCHED_AT: "99.5", "SLURM_JOB_ID": "7"}, 2000.0)
    (tmp_path / "epoch_9.pth").write_bytes(b"torn")
    found, said = resume_of_restart(tmp_path, False, environ=environ)
    assert found == path and "passing over epoch_9.pth" in said[0] and len(said) == 2
    path.unlink()
    found, said = resume_of_restart(tmp_path, False, environ=environ)
    assert found is False
    assert "starting from scratch" in said[0]
    found, said = resume_of_restart(tmp_path, False, "msn.pth.tar", environ)
    assert found is False
    assert said[0].endswith("of this run yet, starting from 'msn.pth.tar', as at first")
    assert resume_of_restart(tmp_path, "old.pth", environ=environ)[0] == "old.pth"


def test_a_requeued_job_takes_only_what_the_job_itself_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    runner = build_runner(load_config(write_config(tmp_path)), work_dir=tmp_path / "out")
    train(runner)

    def requeued(**job: str) -> bool | str | Path:
        # torchrun, where it is used, starts anew
        again = {"SLURM_RESTART_COUNT": "1", LAUNCHED_AT: repr(time.time()), **job}
        return resume_of_restart(tmp_path / "out", False, environ=again)[0]

    assert requeued(SLURM_JOB_ID="1") == tmp_path / "out" / "epoch_2.pth"
    assert requeued(SLURM_JOB_ID="2") is False
    assert requeued() is False
    # Tasks of an array are jobs of their own.
    task = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}
    path = saved_by(tmp_path / "out" / "epoch_3.pth", task, time.time() + 9)
    assert requeued(**{**task, "SLURM_JOB_ID": "10"}) == path
    assert requeued(**{**task, "SLURM_ARRAY_TASK_ID": "4"}) is False


def test_a_run_is_named_by_what_starts_it_again() -> None:
    assert run_ids({}) == {}
    assert run_ids({"TORCHELASTIC_RUN_ID": "few"}) == {"launch": "few"}
    # torchrun without a name: its process
    one = run_ids({"TORCHELASTIC_RUN_ID": "none"})
    assert one == run_ids({"TORCHELASTIC_RUN_ID": "none"})
    assert one["launch"].startswith(f"{os.getppid()} of ")


def test_only_the_first_to_die_are_named() -> None:
    survivors = {0: -signal.SIGTERM, 2: 75}
    named = death_lines({1: -signal.SIGKILL, **survivors}, 4, "gpu07")
    assert named == [
        "rank 1 of 4 on gpu07 was ended by SIGKILL; was memory short? (dmesg tells)",
    ]
    assert death_lines({3: -signal.SIGSEGV, **survivors}, 4, "h")[0].endswith("by SIGSEGV")
    # A bug has its traceback, a mistake its line; the others were ended for it.
    assert death_lines({3: 1, **survivors}, 4, "h") == []
    assert len(death_lines({1: -signal.SIGTERM}, 2, "h")) == 1
    assert exit_status([-signal.SIGTERM, -signal.SIGKILL]) == 137
    assert exit_status([-signal.SIGKILL, 2]) == 2
    assert exit_status([-signal.SIGTERM, 1]) == 1
    assert exit_status([-signal.SIGTERM]) == 143


ENDS = """
import signal, sys, time
asked = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: asked.append(number))
print("ready", flush=True)
while not asked or sys.argv[1] == "late":
    time.sleep(0.05)
time.sleep(0.2)
sys.exit(128 + asked[0])
"""


@pytest.mark.parametrize(
    ("saves", "number", "status"),
    [("saves", signal.SIGUSR1, 138), ("late", signal.SIGTERM, 137)],
)
def test_a_stop_has_the_status_of_who_was_asked(
    tmp_path: Path, saves: str, number: int, status: int
) -> None:
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    command = [sys.executable, "-m", "msn_mm.utils.torchrun", "--standalone"]
    command += ["--nproc-per-node", "1", str(script), saves]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "60" if saves == "saves" else "1"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, text=True, **pipes) as launch:  # type: ignore[call-overload]
        assert launch.stdout.readline() == "ready\n"
        launch.send_signal(number)
        errors = launch.communicate(timeout=60)[1]  # ends with the last who holds the pipe
    assert launch.returncode == status, errors
    told = f"error: rank 0 on {socket.gethostname()} was ended by SIGKILL"
    told += " (TORCH_ELASTIC_SHUTDOWN_TIMEOUT is 1 s) after SIGTERM: it did not save"
    assert (told in errors) == (saves == "late"), errors


def test_only_a_request_to_stop_gets_the_time_of_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[tuple[int, int]] = []

    class Processes:
        def close(self, number: int, timeout: int = 30) -> None:
            waits.append((int(number), timeout))

    def agent() -> TellingAgent:
        made = TellingAgent.__new__(TellingAgent)
        made._pcontext = Processes()  # type: ignore[assignment]
        made._worker_watchdog = made._health_check_server = None
        made._worker_group = SimpleNamespace(workers=[])  # type: ignore[assignment]
        return made

    def asked(one: TellingAgent, number: signal.Signals) -> int:
        waits.clear()
        try:
            raise SignalException("asked", number)
        except SignalException:
            one._shutdown(number)
        assert waits[0][0] == number
        return waits[0][1]

    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    one = agent()
    one._shutdown()  # a death: the survivors
    assert waits == [(15, 30)]
    assert asked(one, signal.SIGTERM) == 600
    assert asked(one, signal.SIGTERM) == 30  # asked again
    assert asked(agent(), signal.SIGUSR1) == 600
    assert asked(agent(), signal.SIGINT) == 30
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "77")
    assert asked(agent(), signal.SIGTERM) == 77
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "soon")
    with pytest.raises(UserError, match="a whole number of seconds, not 'soon'"):
        stop_seconds()


def test_the_status_of_a_stop_says_whether_it_was_saved() -> None:
    term = signal.SIGTERM
    assert stop_status(term, {0: 143, 1: 143}, "h") == (143, [])
    assert stop_status(term, {0: 0, 1: 0}, "h") == (0, [])  # done as the signal came
    status, lines = stop_status(term, {0: 143, 1: -9}, "h")
    assert status == 137 and len(lines) == 1 and "rank 1 on h" in lines[0]
    assert stop_status(term, {0: 143, 1: -15}, "h")[0] == 1
    assert stop_status(term, {0: 1, 1: 75}, "h")[0] == 1
    assert stop_status(term, {0: 143, 1: 2}, "h") == (2, [])  # has told its mistake
    assert stop_status(term, {}, "h")[0] == 1
    assert stop_status(signal.SIGINT, {}, "h") == (130, [])


def test_a_survivor_tells_its_loss_in_one_line() -> None:
    gloo = "[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242"
    words = r"rank 0 of 2 on \S+ lost another process"
    with pytest.raises(LostProcess, match=words) as told, telling_lost_process(0, 2):
        raise RuntimeError(gloo)
    assert told.value.status == 75
    for size, text in ((1, gloo), (2, "mat1 and mat2 shapes cannot be multiplied")):
        with pytest.raises(RuntimeError) as bug, telling_lost_process(0, size):
            raise RuntimeError(text)
        assert not isinstance(bug.value, LostProcess)


def test_failures_to_meet_have_their_words() -> None:
    for text, words in (
        ("Timed out after 4 seconds waiting for clients. 1/2 clients joined.", "only 1 of 2 proc"),
        ("client socket has timed out after 3000ms while trying to connect", "no process with ra"),
        ("listen on any address. port: 29777, name: EADDRINUSE", "port 29777 of this machine is"),
    ):
        line = join_failure(RuntimeError(text), "gpu01", "29500", 300)
        assert line is not None and line.startswith(words)
    assert join_failure(RuntimeError("anything else"), "gpu01", "29500", 300) is None


def _settle_on_one_of_two(rank: int, port: int, folder: str) -> None:
    """Look for a checkpoint that the first process alone can see, whole and then torn."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    seen = Path(folder) / str(rank)
    said: list[str] = []
    for part in ("whole", "torn"):
        try:
            path, notes = settle_resume(seen / part, True)
            said.append(f"{path}: {notes}")
        except UserError as error:
            said.append(str(error))
    try:
        decided_by_first(lambda: 1 // 0)
    except ArithmeticError as error:
        said.append(f"the first process failed: {error}")
    except RuntimeError as error:
        said.append(str(error))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(said))
    torch.distributed.destroy_process_group()


def test_the_first_process_looks_for_all(tmp_path: Path) -> None:
    for part in ("whole", "torn"):
        (tmp_path / "0" / part).mkdir(parents=True)
    path = saved_by(tmp_path / "0" / "whole" / "epoch_7.pth", {}, 1.0)
    (tmp_path / "0" / "torn" / "epoch_7.pth").write_bytes(path.read_bytes()[:-9])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_settle_on_one_of_two, (port, str(tmp_path)), nprocs=2)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == two
    assert one[0].startswith(f"{path}: ") and "(1 damaged)" in one[1]
    assert one[2].startswith("the first process failed: integer division")


def test_a_checkpoint_is_read_once_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    check = checkpointing._torn_record
    monkeypatch.setattr(
        checkpointing, "_torn_record", lambda path: check(read.append(path) or path)
    )
    path = saved_by(tmp_path / "epoch_7.pth", {LAUNCHED_AT: "5"}, 1.0)
    environ = {LAUNCHED_AT: "5", "TORCHELASTIC_RESTART_COUNT": "1"}
    found, notes = settle_resume(tmp_path, False, environ=environ)
    assert found == path and read == [path]
    assert [text for _, text in notes] == [
        "restart 1: going on from epoch_7.pth",
        f"resuming from {path}",
    ]
    assert settle_resume(tmp_path, path, environ={})[0] == path and len(read) == 2
    assert settle_resume(tmp_path, False, environ={}) == (None, []) and len(read) == 2
