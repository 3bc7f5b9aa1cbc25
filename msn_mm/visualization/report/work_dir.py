"""What a training's directory holds, read defensively: it may be half written, or resumed often.

Of several trainings in one directory it is the last one alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from msn_mm.convert.torch_file import read_tensor_file
from msn_mm.engine.checkpointing import newest_whole
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import training_checkpoints
from msn_mm.utils.early_checks import check_training_directory
from msn_mm.visualization.curves import History, find_scalars, read_history
from msn_mm.visualization.report.starts import Start, last_training, lines_of, read_starts

TOOL = "report"
# MMEngine's log tells the machine in its first lines.
_HEADER_LINES = 60


@dataclass(frozen=True)
class Results:
    """What one tool measured.

    Attributes:
        path: Its ``results.json``, below the training's directory or named by the user.
        content: What is in it.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def tool(self) -> str:
        """Name of the tool."""
        return str(self.content.get("tool"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the numbers depend on."""
        found = self.content.get("settings")
        return found if isinstance(found, Mapping) else {}

    def rows(self, name: str) -> dict[str, Any]:
        """Return the metrics by row; those of a single row under ``name``."""
        metrics = self.content.get("metrics")
        if not isinstance(metrics, Mapping):
            return {}
        if isinstance(self.content.get("config"), list):
            return dict(metrics)
        return {name: metrics}

    @property
    def program(self) -> str:
        """The tool without its command: ``rcdm`` of ``rcdm sample``."""
        return self.tool.partition(" ")[0]


@dataclass
class WorkDir:
    """A training's directory.

    Args:
        path: The directory, as the user named it.
        name: What the page calls the training.
        more_results: Further ``results.json``, or directories with some.
        checkpoint_asked: The checkpoint to look at; default: the newest whole one.

    Raises:
        UserError: There is no such directory, or no training in it.
    """

    path: Path
    name: str
    more_results: Sequence[Path] = ()
    checkpoint_asked: Path | None = None

    def __post_init__(self) -> None:
        check_work_dir(self.path)

    @cached_property
    def config_path(self) -> Path | None:
        """The resolved config that the training wrote."""
        dumped = sorted(self.path.glob("*/vis_data/config.py"))
        own = sorted(self.path.glob("*.py"), key=lambda path: path.stat().st_mtime)
        return next(iter([*own[-1:], *dumped[-1:]]), None)

    @cached_property
    def cfg(self) -> Config:
        """The config.

        Raises:
            UserError: There is none, or it cannot be read.
        """
        if self.config_path is None:
            raise UserError(
                f"{self.path} holds no config; a training writes one at its start: copy it there"
            )
        return load_config(self.config_path)

    @cached_property
    def history(self) -> History:
        """The logged scalars, of all starts of the training in one."""
        left_out = {start.name for start in self._left_out}
        found = find_scalars(self.path)
        return read_history(path for path in found if path.parent.parent.name not in left_out)

    @cached_property
    def checkpoint(self) -> Path:
        """The checkpoint to look at.

        Raises:
            UserError: There is none.
        """
        if self.checkpoint_asked is not None:
            return self.checkpoint_asked
        found, damaged = newest_whole(self.path, self._is_own)
        if found is None:
            told = f" (damaged: {damaged[0]})" if damaged else ""
            raise UserError(f"{self.path} holds no whole checkpoint yet{told}")
        return found

    @property
    def checkpoint_or_none(self) -> Path | None:
        """The checkpoint, ``None`` where there is none."""
        try:
            return self.checkpoint
        except UserError:
            return None

    @cached_property
    def saved(self) -> Mapping[str, Any]:
        """The checkpoint's content beside its weights; empty where there is none."""
        try:
            content, _ = read_tensor_file(self.checkpoint)
        except UserError:
            return {}
        return content if isinstance(content, Mapping) else {}

    def hook_state(self, name: str) -> Mapping[str, Any]:
        """Return what the checkpoint's first process knew of a hook; empty if nothing."""
        hooks = self.saved.get("hooks")
        first = hooks[0] if isinstance(hooks, list) and hooks else hooks
        state = first.get(name) if isinstance(first, Mapping) else None
        return state if isinstance(state, Mapping) else {}

    @cached_property
    def results(self) -> list[Results]:
        """What tools measured, below the directory and where the user said; by path."""
        files = {path for path in self.path.rglob("results.json") if self._is_newer(path)}
        for place in self.more_results:
            files |= {place} if place.is_file() else set(place.rglob("results.json"))
        found = (_read_results(path) for path in sorted(files))
        return [one for one in found if one is not None and one.tool != TOOL]

    def results_of(self, *tools: str) -> list[Results]:
        """Return the results of some tools, of all their commands (``rcdm``, ``rcdm sample``)."""
        return [one for one in self.results if one.program in tools]

    @cached_property
    def _trainings(self) -> tuple[list[Start], list[Start], int]:
        return last_training(read_starts(self.path))

    @property
    def starts(self) -> list[Start]:
        """The processes of the training, in order."""
        return self._trainings[0]

    @property
    def resumes(self) -> int:
        """How often the training was resumed."""
        return sum(start.resumed for start in self.starts)

    @property
    def earlier_trainings(self) -> int:
        """How many trainings ran in the directory before this one; nothing is shown of them."""
        return self._trainings[2]

    @property
    def _left_out(self) -> list[Start]:
        return self._trainings[1]

    def _is_own(self, meta: Mapping[str, Any]) -> bool:
        """Whether no start of an earlier training saved a checkpoint; MMEngine names it there."""
        saved_by = str(meta.get("experiment_name"))
        return not any(saved_by.endswith(start.name) for start in self._left_out)

    def _is_newer(self, results: Path) -> bool:
        """Whether results were written after the training began, of several in the directory."""
        if not self._left_out:
            return True
        try:
            began = (self.path / self.starts[0].name / "vis_data" / "config.py").stat().st_mtime
            return results.stat().st_mtime >= began
        except OSError:
            return True

    @cached_property
    def environment(self) -> dict[str, str]:
        """Versions and hardware: of the training's results, else of its log's beginning."""
        for one in self.results_of("train", "demo", "finetune", "linear"):
            told = one.content.get("environment")
            if isinstance(told, Mapping) and told:
                return {str(key): str(value) for key, value in told.items() if value is not None}
        for log in sorted(self.path.glob("*/*.log"), reverse=True):
            found = {}
            for line in lines_of(log, _HEADER_LINES):
                told = re.match(
                    r"\s+(Python|PyTorch|TorchVision|OpenCV|MMEngine|GPU [\d,]+): (.*)", line
                )
                if told:
                    found[told[1].lower()] = told[2].partition(" (")[0].strip()
            if found:
                return found
        return {}


def names_of(paths: Sequence[str]) -> list[str]:
    """Name directories by their last parts, as many as tell them apart.

    Raises:
        UserError: One is named twice.
    """
    parts = [Path(path).resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1)
        raise UserError(f"work dir {twice} is named twice; name each training once")
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            break
    return names


def check_work_dir(path: Path) -> None:
    """Refuse what is no directory of a training.

    Raises:
        UserError: Naming what it is instead.
    """
    check_training_directory(path)
    if find_scalars(path) or training_checkpoints(path):
        return
    own = _read_results(path / "results.json")
    if own is not None:
        raise UserError(
            f"{path} holds results of tools/{own.program}.py and no training; give the directory "
            "of the training, and this one by --results"
        )
    if not any(path.iterdir()):
        raise UserError(f"work dir {path} is empty; train first: python tools/train.py CONFIG")
    inner = sorted(p.parent.parent.parent for p in path.glob("*/**/vis_data/scalars.json"))
    hint = f"; do you mean {inner[0]}?" if inner else "; give the directory that a training wrote"
    raise UserError(f"{path} holds neither logged scalars nor checkpoints{hint}")


def _read_results(path: Path) -> Results | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return Results(path, content) if isinstance(content, dict) and "tool" in content else None
