"""The starts of a training, each with a directory of logs, and which of them belong together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msn_mm.engine.start_file import is_resume

_NAME = re.compile(r"\d{8}_\d{6}")
_WARNING = re.compile(r"- (WARNING|ERROR) - (.*)")
# MMEngine's own line, in the logs of versions that wrote no start.json.
_RESUMED = re.compile(r"- INFO - resumed epoch: \d+, iter: \d+")


@dataclass(frozen=True)
class Start:
    """One process of the training: the first, or one that resumed it.

    Attributes:
        name: When it started, as MMEngine names its directory.
        first: Iteration of its first line in the log of scalars, if any.
        last: Of its last one.
        warnings: Warnings and errors of its log, by text how often.
        resumed: Whether it went on from a checkpoint.
    """

    name: str
    first: int | None
    last: int | None
    warnings: Mapping[str, int]
    resumed: bool

    @property
    def begins(self) -> bool:
        """Whether it began a training anew, and got as far as its first logged step."""
        return not self.resumed and self.first is not None


def read_starts(work_dir: Path) -> list[Start]:
    """Return all starts that left logs in a directory, oldest first."""
    return [
        _read(place)
        for place in sorted(work_dir.iterdir())
        if place.is_dir() and _NAME.fullmatch(place.name)
    ]


def last_training(starts: Sequence[Start]) -> tuple[list[Start], list[Start], int]:
    """Tell the starts of the last training from those of earlier ones in the same directory.

    A training begun anew does not go on with what is there already: its curves and
    the older ones are of two trainings.

    Args:
        starts: From :func:`read_starts`.

    Returns:
        The last training's starts, the others, and of how many trainings these are.
    """
    begun = [place for place, start in enumerate(starts) if start.begins]
    if not begun or begun[-1] == 0:
        return list(starts), [], 0
    # Logs before the first beginning are of a training that began elsewhere.
    earlier = len(begun) - 1 + (begun[0] > 0)
    return list(starts[begun[-1] :]), list(starts[: begun[-1]]), earlier


def lines_of(path: Path, most: int | None = None) -> Iterator[str]:
    """Yield the lines of a text file, ``most`` at most; none of one that cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file):
                if most is not None and number >= most:
                    return
                yield line.rstrip("\n")
    except OSError:
        return


def _read(place: Path) -> Start:
    warnings: dict[str, int] = {}
    resumed = False
    for log in sorted(place.glob("*.log")):
        for line in lines_of(log):
            resumed = resumed or _RESUMED.search(line) is not None
            found = _WARNING.search(line)
            if found:
                warnings[found[2]] = warnings.get(found[2], 0) + 1
    told = is_resume(place)
    steps = _steps(place / "vis_data" / "scalars.json")
    return Start(place.name, *steps, warnings, resumed if told is None else told)


def _steps(scalars: Path) -> tuple[int | None, int | None]:
    steps = []
    for line in lines_of(scalars):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("iter"), int):
            steps.append(record["iter"])
    return (steps[0], steps[-1]) if steps else (None, None)
