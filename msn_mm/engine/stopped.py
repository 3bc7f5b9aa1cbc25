"""The end of a training that was asked to stop, neither a mistake nor a success."""

from __future__ import annotations

import signal

# A scheduler and torchrun may both pass one request on, a moment apart: signals
# within so many seconds of the first are the same request.
SAME_REQUEST_S = 1.0


class TrainingStopped(Exception):
    """A signal asked the training to stop, and its state is saved.

    Attributes:
        status: with which a tool that ends by it leaves: 128 + the signal's
            number, as a shell counts (SIGTERM: 143, SIGUSR1: 138).
    """

    def __init__(self, number: int, line: str) -> None:
        super().__init__(line)
        self.status = 128 + int(signal.Signals(number))
