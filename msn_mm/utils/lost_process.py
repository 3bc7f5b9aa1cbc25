"""What torch says when processes do not find or lose each other, in one line.

torch tells it in its transports' words: addresses, file names of C++, no rank.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from msn_mm.errors import UserError

# sysexits.h: a failure that another attempt may not meet.
LOST_STATUS = 75

_LOST = re.compile(
    r"Connection (closed by|reset by|refused)|Broken pipe|Socket closed|connection was aborted"
    r"|remote process exited|Timed out waiting \d+ms for (recv|send)|NCCL.*(remote|timeout)"
    r"|Watchdog caught collective|ncclRemoteError|ncclSystemError|recvBytes|sendBytes",
    re.IGNORECASE,
)


class LostProcess(UserError):
    """Another process of the run is gone; this one cannot go on.

    No mistake of the user's, so it has an exit status of its own, which
    torchrun answers with a restart where it has one left.
    """

    status = LOST_STATUS


@contextmanager
def telling_lost_process(rank: int, size: int) -> Iterator[None]:
    """Turn a collective's failure for want of a peer into :class:`LostProcess`.

    Args:
        rank: number of this process.
        size: number of processes; with one, nothing is changed.
    """
    try:
        yield
    except RuntimeError as error:
        if size == 1 or not _LOST.search(str(error)):
            raise
        raise LostProcess(
            f"rank {rank} of {size} on {socket.gethostname()} lost another process of the run: it "
            "died, its machine failed, or it did not answer in time (env_cfg.dist_cfg.timeout); "
            "start again with --resume"
        ) from error


def join_failure(error: Exception, address: str, port: str, timeout_s: float) -> str | None:
    """Return the line for a failure to join a process group, None for any other failure.

    Args:
        error: what torch raised.
        address: MASTER_ADDR.
        port: MASTER_PORT.
        timeout_s: seconds that were waited.
    """
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        taken = re.search(r"port: (\d+)", text)
        return (
            f"port {taken[1] if taken else port} of this machine is taken, perhaps by another run: "
            "set MASTER_PORT to a free one"
        )
    joined = re.search(r"(\d+)/(\d+) clients joined", text)
    if joined:
        return (
            f"only {joined[1]} of {joined[2]} processes came to {address}:{port} within "
            f"{timeout_s:.0f} s: start the others, or start as many as there are"
        )
    if re.search(r"client socket has (timed out|failed)|hostname.*cannot be retrieved", text):
        return (
            f"no process with rank 0 answers at {address}:{port} within {timeout_s:.0f} s: start "
            "it, or correct MASTER_ADDR and MASTER_PORT"
        )
    return None
