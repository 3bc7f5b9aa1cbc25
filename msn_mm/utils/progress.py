"""How far long work has come, for someone who watches a terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_REFRESH_S = 0.2


class Progress:
    """One line that renews itself: done, rate and time left. Silent in a pipe or a file.

    Args:
        total: How much there is to do.
        label: What is being done; ``None`` keeps silent.
        unit: What is counted.
        stream: Where to write; default: standard error.
    """

    def __init__(
        self,
        total: int,
        label: str | None,
        unit: str = "images",
        stream: TextIO | None = None,
    ) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._shows = label is not None and total > 0 and self._stream.isatty()
        self._done = 0
        self._start = time.monotonic()
        self._shown_at = 0.0
        self._width = 0

    @staticmethod
    def say(what: str) -> None:
        """Tell a terminal which part of the work begins; a pipe or a file is told nothing."""
        if sys.stderr.isatty():
            print(f"{what} ...", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows and self._width:
            # The last line goes; what the work amounts to is for its caller to say.
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def to(self, done: int) -> None:
        """Say that ``done`` of the total are done."""
        self._done = min(done, self.total)
        now = time.monotonic()
        if not self._shows or now - self._shown_at < _REFRESH_S:
            return
        self._shown_at = now
        line = self.line(now - self._start)
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = max(self._width, len(line))

    def step(self, done: int, _total: int) -> None:
        """The same as :meth:`to`, for work that reports how much is done and of how much."""
        self.to(done)

    def line(self, seconds: float) -> str:
        """Word the state after ``seconds`` of work."""
        rate = self._done / seconds if seconds > 0 else 0.0
        left = _clock((self.total - self._done) / rate) if rate > 0 else "?"
        return (
            f"{self.label}: {self._done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.1f}/s, {left} left"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
