"""Checkpoints that load without running code, and the newest whole one of a directory."""

from __future__ import annotations

import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from msn_mm.convert.torch_file import read_tensor_file
from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import is_address, is_safetensors, training_checkpoints

# When a checkpoint was saved (seconds since 1970), beside MMEngine's own ``meta``.
SAVED_AT = "saved_at"
# What names the run that saved it: see :func:`msn_mm.engine.restart.run_ids`.
RUN = "run"

_HISTORY = "__history_buffer__"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)


def to_plain(value: Any, dropped: list[str], name: str = "checkpoint") -> Any:
    """Return a copy of a checkpoint's content in types that a safe load accepts.

    Containers become ``dict``, ``OrderedDict``, ``list`` or ``tuple``; MMEngine's
    ``HistoryBuffer`` a dict of two tensors (see :func:`from_plain`); NumPy
    scalars Python's; NumPy arrays tensors; paths strings. Tensors are passed on
    unchanged.

    Args:
        value: the content.
        dropped: receives the name of each entry that no safe type can hold;
            ``None`` takes its place.
        name: name of ``value`` in those entries.
    """
    if isinstance(value, HistoryBuffer):
        history, count = value.data
        return {
            _HISTORY: int(value.max_length),
            "history": torch.from_numpy(np.array(history, dtype=np.float64)),
            "count": torch.from_numpy(np.array(count, dtype=np.int64)),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.array(value))
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind(
            (to_plain(k, dropped, f"{name} key"), to_plain(v, dropped, f"{name}.{k}"))
            for k, v in value.items()
        )
    if isinstance(value, list | tuple | deque | set | frozenset) and type(value) is not torch.Size:
        items = [to_plain(v, dropped, f"{name}.{i}") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, torch.nn.Parameter):
        return value.detach()
    if isinstance(value, torch.Tensor) or type(value) in _PLAIN:
        return value
    if isinstance(value, Path):
        return str(value)
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    dropped.append(f"{name} ({type(value).__name__})")
    return None


def from_plain(value: Any) -> Any:
    """Return ``value`` with every ``HistoryBuffer`` rebuilt; inverse of :func:`to_plain`.

    A resume loads to the current device, so the histories are fetched to the
    host first.
    """
    if isinstance(value, Mapping):
        if _HISTORY in value:
            return HistoryBuffer(
                value["history"].cpu().numpy(), value["count"].cpu().numpy(), value[_HISTORY]
            )
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((k, from_plain(v)) for k, v in value.items())
    return value


# What an exact continuation needs of a checkpoint.
_TRAINING_STATE = ("state_dict", "meta", "message_hub")
_NO_STATE = "it holds no training state; start a new training from its weights with --load-from"


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint that may be resumed from, and where it stands among the others."""

    path: Path
    saved_at: float
    progress: int
    fault: str | None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> tuple[float, int]:
        return self.saved_at, self.progress


def fault_of(path: Path) -> str | None:
    """Return why a file cannot be resumed from, or ``None`` for a whole checkpoint.

    Every byte of the content is compared with its checksum, then the content is
    loaded, lazily and without running code.
    """
    return _examine(path).fault or _torn_record(path)


def find_resumable(
    work_dir: str | Path,
    asked: Path | None = None,
    of: Callable[[Mapping[str, Any]], bool] | None = None,
) -> tuple[Path, list[str]]:
    """Return the checkpoint to resume from and what was passed over on the way.

    The newest is the one saved last, by the time that the checkpoint itself
    holds (copying does not change it), and of two saved at once the one with
    more iterations. MMEngine's ``last_checkpoint`` is not read: after a kill it
    may be missing or behind.

    Args:
        work_dir: directory of the run; its newest whole ``epoch_*`` or
            ``iter_*`` file is taken.
        asked: a file that the user named instead.
        of: which checkpoints of ``work_dir`` to take at all, by their ``meta``.

    Returns:
        The file, and one sentence for each newer file that cannot be used.

    Raises:
        UserError: when there is nothing whole to resume from.
    """
    directory = Path(work_dir)
    if asked is not None:
        if asked.is_dir():
            return find_resumable(asked, of=of)
        if not asked.is_file():
            raise UserError(f"--resume: no checkpoint at '{asked}'{_offer(asked.parent)}")
        if fault := fault_of(asked):
            raise UserError(f"--resume: '{asked}' is of no use: {fault}{_offer(asked.parent)}")
        return asked, []
    newest, skipped = newest_whole(directory, of)
    if newest is not None:
        return newest, skipped
    passed = f" ({len(skipped)} damaged)" if skipped else ""
    raise UserError(
        f"--resume: no whole checkpoint in '{directory}'{passed}; leave --resume out to start "
        "from scratch, or give the path of a checkpoint"
    )


def newest_whole(
    directory: Path, of: Callable[[Mapping[str, Any]], bool] | None = None
) -> tuple[Path | None, list[str]]:
    """Return the newest whole ``epoch_*`` or ``iter_*`` file of a directory.

    Args:
        directory: of a run.
        of: which checkpoints to take at all, by their ``meta``.

    Returns:
        The file, or ``None``, and one sentence for each newer file that cannot be used.
    """
    skipped: list[str] = []
    for candidate in _newest_first(directory):
        if of is not None and not candidate.fault and not of(candidate.meta):
            continue
        fault = candidate.fault or _torn_record(candidate.path)
        if fault is None:
            return candidate.path, skipped
        skipped.append(f"passing over {candidate.path.name}: {fault}")
    return None, skipped


def checkpoint_file(source: str | Path) -> tuple[str, list[str]]:
    """Return the checkpoint that a name stands for: of a training's directory its newest whole.

    Every tool that reads weights takes its checkpoint by this, and records what it got.

    Args:
        source: A file, the directory of a training or of Hugging Face, or an address.

    Returns:
        The newest whole file of a training's directory, else ``source`` as it is; and a
        sentence for each newer file that cannot be used.

    Raises:
        UserError: It is a training's directory, and none of its files is whole.
    """
    directory = Path(source).expanduser()
    if is_address(str(source)) or not directory.is_dir() or not training_checkpoints(directory):
        return str(source), []
    newest, skipped = newest_whole(directory)
    if newest is None:
        raise UserError(f"'{source}' has no whole checkpoint ({skipped[0]}); name another")
    return str(newest), skipped


def _newest_first(directory: Path) -> list[_Candidate]:
    found = [_examine(path) for path in training_checkpoints(directory)]
    return sorted(found, key=lambda candidate: candidate.order, reverse=True)


def _examine(path: Path) -> _Candidate:
    """Read what orders a checkpoint; its tensors stay on the disk."""
    saved_at = 0.0
    try:
        saved_at = path.stat().st_mtime
        if is_safetensors(path):
            return _Candidate(path, saved_at, 0, _NO_STATE)
        if not zipfile.is_zipfile(path):
            # the archive's directory is written last
            return _Candidate(path, saved_at, 0, "it was not written to its end")
        content, _ = read_tensor_file(path)
        if not all(isinstance(content[key], Mapping) for key in _TRAINING_STATE):
            return _Candidate(path, saved_at, 0, _NO_STATE)
        meta = content["meta"]
        epoch, progress = int(meta["epoch"]), int(meta["iter"])
        saved_at = float(meta.get(SAVED_AT, saved_at))
    except (KeyError, TypeError, AttributeError):
        return _Candidate(path, saved_at, 0, _NO_STATE)
    except Exception as error:  # any byte may be wrong, so any reader's error may come
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _Candidate(path, saved_at, 0, f"it cannot be read ({reason})")
    if epoch < 0 or progress < 0:
        return _Candidate(path, saved_at, 0, _NO_STATE)
    return _Candidate(path, saved_at, progress, None, meta)


def _torn_record(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except Exception as error:  # a wrong header shows in many ways
        return f"its content is damaged ({error})"
    return None if name is None else f"its content is damaged ({name} is not what was written)"


def _offer(directory: Path) -> str:
    candidates = _newest_first(directory)
    whole = next((c.path for c in candidates if not (c.fault or _torn_record(c.path))), None)
    return f"; the newest whole one there is '{whole.name}'" if whole else ""
