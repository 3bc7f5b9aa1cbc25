"""torchrun that ends as its processes end: a user's mistake stays one line.

torchrun answers every failed process with a report and a traceback of its own.
When a process ended with the status of a user's mistake it has told it already,
so this passes the status on in silence. A process that a signal ended could say
nothing, so it is named here. With restarts left, a death is answered by a
restart; a mistake is not, as it would only come back. Asked to stop, torchrun
gives its processes 30 s in all; here they have the time that a save takes, and
the status says whether they took it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, ClassVar

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher import api as launcher
from torch.distributed.run import get_args_parser, run

from msn_mm.errors import UserError
from msn_mm.utils.cli import INTERRUPTED_STATUS, USER_ERROR_STATUS
from msn_mm.utils.lost_process import LOST_STATUS, join_failure

# Seconds since the epoch at which this launch began; its processes inherit it.
LAUNCHED_AT = "MSN_MM_LAUNCHED_AT"
# A process that a signal asked to save and stop has said so, and is not to be restarted.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_STOPPED = tuple(128 + int(number) for number in _STOP_SIGNALS)
_MISTAKE = (USER_ERROR_STATUS, INTERRUPTED_STATUS, *_STOPPED)
_TOLD = (*_MISTAKE, LOST_STATUS)
# torch's own wait for the machines of a launch.
_JOIN_S = 900.0
# Shorter than torchrun's wait between SIGTERM and SIGKILL.
_GRACE_S = 15.0
# torchrun's wait between SIGTERM and SIGKILL: for the survivors of a death, which
# have nothing to save, and after a second request to stop.
_KILL_S = 30
# The variable of newer releases of torch; older ones have no setting.
_STOP_VARIABLE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_STOP_S = 600


class TellingAgent(LocalElasticAgent):
    """torch's agent that names the processes a signal ended, and restarts no mistake.

    Attributes:
        ended: exit status by rank of the processes that this launch was asked to
            stop, as :mod:`subprocess` gives it.
    """

    ended: ClassVar[dict[int, int]] = {}
    _asked = False

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, *args: Any, **kwargs: Any
    ) -> None:
        request = sys.exc_info()[1]
        if isinstance(request, SignalException) and self._pcontext is not None:
            saves = request.sigval in _STOP_SIGNALS and not self._asked
            self._asked = True
            # torch's own call below finds them ended, and has nothing left to kill.
            self._pcontext.close(death_sig, stop_seconds() if saves else _KILL_S)
            TellingAgent.ended = self._statuses()
        super()._shutdown(death_sig, *args, **kwargs)

    def _statuses(self) -> dict[int, int]:
        handlers = getattr(self._pcontext, "subprocess_handlers", {})
        found = {local: handler.proc.poll() for local, handler in handlers.items()}
        return {
            worker.global_rank: found[worker.local_rank]
            for worker in self._worker_group.workers
            if found.get(worker.local_rank) is not None
        }

    def _monitor_workers(self, worker_group: Any) -> Any:
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            # A survivor that has to be killed in the end is counted much later than the first.
            first = min(failure.timestamp for failure in result.failures.values())
            statuses = {
                rank: failure.exitcode
                for rank, failure in result.failures.items()
                if failure.timestamp - first < _GRACE_S
            }
            if any(status in _MISTAKE for status in statuses.values()):
                self._remaining_restarts = 0
            size = worker_group.workers[0].world_size
            left = self._remaining_restarts
            for line in death_lines(statuses, size, socket.gethostname()):
                print(f"error: {line}", file=sys.stderr, flush=True)
            if left:
                again = "1 restart" if left == 1 else f"{left} restarts"
                print(f"starting all processes again ({again} left)", file=sys.stderr, flush=True)
        return result


def death_lines(statuses: Mapping[int, int], size: int, host: str) -> list[str]:
    """Return a line for each process that a signal ended before torchrun ended the others.

    Args:
        statuses: exit status by rank, as :mod:`subprocess` gives it: ``-n`` for signal n.
        size: number of processes of the run.
        host: this machine's name.
    """
    deaths = {rank: -status for rank, status in statuses.items() if status < 0}
    # torchrun ends the survivors by SIGTERM, and by SIGKILL those that stay.
    failed = [status for status in statuses.values() if status > 0 and status not in _TOLD]
    own = {rank: number for rank, number in deaths.items() if number != signal.SIGTERM}
    if not own and not failed:
        own = deaths
    lines = []
    for rank, number in sorted(own.items()):
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        hint = "; was memory short? (dmesg tells)" if number == signal.SIGKILL else ""
        lines.append(f"rank {rank} of {size} on {host} was ended by {name}{hint}")
    return lines


def stop_seconds(environ: Mapping[str, str] = os.environ) -> int:
    """Return how long processes that were asked to stop may take to save, in seconds.

    Raises:
        UserError: when the environment's number is none.
    """
    text = environ.get(_STOP_VARIABLE, str(_STOP_S))
    if not text.isdecimal():
        raise UserError(f"{_STOP_VARIABLE} must be a whole number of seconds, not '{text}'")
    return int(text)


def stop_status(
    number: signal.Signals, statuses: Mapping[int, int], host: str
) -> tuple[int, list[str]]:
    """Return the status of a launch that was asked to stop, and a line for who did not save.

    Args:
        number: the signal that asked.
        statuses: exit status by rank.
        host: this machine's name.

    Returns:
        128 + the signal's number when all processes stopped so or had done all
        (0 when all had), else what the first other one ended with.
    """
    if number not in _STOP_SIGNALS:
        return 128 + int(number), []
    if not statuses:
        return 1, [f"{number.name} came before the processes had started"]
    others = {rank: s for rank, s in statuses.items() if s not in (0, *_TOLD)}
    lines = []
    for rank, status in sorted(others.items()):
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        hint = f" ({_STOP_VARIABLE} is {stop_seconds()} s)" if status == -signal.SIGKILL else ""
        lines.append(f"rank {rank} on {host} {how}{hint} after {number.name}: it did not save")
    if others:
        status = exit_status(list(others.values()))
        return (1 if status in _STOPPED else status), lines
    failed = [status for status in statuses.values() if status not in (0, *_STOPPED)]
    return next((s for s in (*failed, *statuses.values()) if s), 0), lines


def exit_status(statuses: Sequence[int]) -> int:
    """Return the status of the whole: a mistake's first, then a signal's, then any other."""
    for status in statuses:
        if status in _MISTAKE:
            return status
    killed = [-status for status in statuses if status < 0 and -status != signal.SIGTERM]
    if killed:
        return 128 + killed[0]
    return next((s for s in statuses if s > 0), 128 + int(signal.SIGTERM))


def main(argv: Sequence[str] | None = None) -> int:
    """Run torchrun with its own arguments; return the first failed process's status."""
    args = get_args_parser().parse_args(argv)
    # Which process failed with which status is told below when it matters.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        stop_seconds()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR_STATUS
    os.environ.setdefault(LAUNCHED_AT, repr(time.time()))
    # torch passes SIGTERM and others on to the processes; this one would end it, and not them.
    signal.signal(signal.SIGUSR1, _pass_on)
    if args.max_restarts and not args.standalone:
        # One store for all starts would hand out the addresses of dead processes.
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # torch has no setting for the agent's class: its launcher looks it up by this name.
    launcher.LocalElasticAgent = TellingAgent  # type: ignore[misc]
    try:
        run(args)
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        if not any(status in _TOLD or status < 0 for status in statuses):
            print(error.format_msg(), file=sys.stderr)
        return exit_status(statuses)
    except (DistError, RendezvousError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        address, port = _endpoint(args)
        line = join_failure(cause, address, port, _JOIN_S)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return USER_ERROR_STATUS
    except SignalException as error:
        status, lines = stop_status(error.sigval, TellingAgent.ended, socket.gethostname())
        for line in lines:
            print(f"error: {line}", file=sys.stderr, flush=True)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    return 0


def _pass_on(number: int, frame: FrameType | None) -> None:
    asked = signal.Signals(number)
    raise SignalException(f"asked to stop by {asked.name}", asked)


def _endpoint(args: Any) -> tuple[str, str]:
    if args.rdzv_endpoint:
        address, _, port = args.rdzv_endpoint.partition(":")
        return address, port or "29400"
    return args.master_addr, str(args.master_port)


if __name__ == "__main__":
    sys.exit(main())
