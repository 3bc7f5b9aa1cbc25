"""A run's directory: what was asked of it, and whether it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.errors import UserError
from msn_mm.sweeps.sweep_file import SweepRun
from msn_mm.utils.results import sha256, to_json, write_atomically

RECORD = "run.json"
EVALUATION = "evaluation.json"
LOG = "output.log"
_VERSION = 1


class RunPlace:
    """One training of a sweep, ``<out>/<run>/seed_<n>``.

    ``run.json`` keeps the resolved config beside the training, so that another
    one is recognised and never mixed with it.

    Args:
        out: Directory of the sweep.
        run: The run.
        seed: Its training seed.

    Attributes:
        directory: Where the training writes.
        name: What messages call it.
    """

    def __init__(self, out: Path, run: SweepRun, seed: int) -> None:
        self.run = run
        self.seed = seed
        self.directory = out / run.slug / f"seed_{seed}"
        self.name = f"{run.label}, seed {seed}"
        self.log = self.directory / LOG
        self._asked = to_json(run.cfg.to_dict())

    def check(self) -> None:
        """Refuse a directory that holds another training.

        Raises:
            UserError: Naming the first setting that differs.
        """
        record = _read(self.directory / RECORD)
        if record is None:
            if (self.directory / "results.json").exists() or self.resumable() is not None:
                raise UserError(
                    f"{self.directory} holds a training that no sweep began; "
                    "name another --out, or move it away"
                )
            return
        if record.get("digest") != _digest(self._asked):
            change = _first_difference(record.get("config"), self._asked)
            raise UserError(
                f"{self.directory} holds a run of another config ({change}): "
                "name another --out, or remove that directory to train it anew"
            )

    def begin(self, command: list[str]) -> None:
        """Write what is about to be trained.

        Raises:
            UserError: The place cannot be written.
        """
        self._write({"command": command})

    def note_job(self, job: str | None) -> None:
        """Keep the number of the Slurm job that trains; ``None``: it is over."""
        self._write({"job": job})

    def job(self) -> str | None:
        """Return the number of the Slurm job that trains, if one was submitted."""
        return (_read(self.directory / RECORD) or {}).get("job")

    def is_asked(self) -> bool:
        """Whether the directory holds what is asked for, begun or finished."""
        record = _read(self.directory / RECORD)
        return record is not None and record.get("digest") == _digest(self._asked)

    def finished(self) -> dict[str, Any] | None:
        """Return ``results.json`` of the finished training; ``None`` before its end."""
        results = _read(self.directory / "results.json")
        if results is None or not self.is_asked():
            return None
        return results if (results.get("settings") or {}).get("seed") == self.seed else None

    def checkpoint(self) -> Path:
        """Return the weights of the finished training.

        Raises:
            UserError: They are gone or others than the training reported.
        """
        results = self.finished() or {}
        if not results.get("checkpoint"):
            raise UserError(
                f"{self.name}: its config saves no checkpoint; there is none to measure"
            )
        path = self.directory / Path(results["checkpoint"]).name
        if not path.is_file() or sha256(path) != results.get("checkpoint_sha256"):
            raise UserError(
                f"{self.name}: {path} is not what the training wrote; remove {self.directory} "
                "to train it anew"
            )
        return path

    def resumable(self) -> Path | None:
        """Return the newest whole checkpoint, if there is one."""
        if not self.directory.is_dir():
            return None
        try:
            return find_resumable(self.directory)[0]
        except UserError:
            return None

    def measured(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the measurement that was kept under ``key``, if it was."""
        kept = _read(self.directory / EVALUATION)
        wanted = to_json({"version": _VERSION, **key})
        return kept["metrics"] if kept is not None and kept.get("key") == wanted else None

    def keep(self, key: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Keep a measurement; ``key`` is all that it depends on.

        Raises:
            UserError: The place cannot be written.
        """
        content = {"key": {"version": _VERSION, **key}, "metrics": metrics}
        _write(self.directory / EVALUATION, content)

    def _write(self, more: Mapping[str, Any]) -> None:
        path = self.directory / RECORD
        kept = (_read(path) or {}) if self.is_asked() else {}
        _write(
            path,
            {
                **kept,
                "version": _VERSION,
                "label": self.run.label,
                "seed": self.seed,
                "options": dict(self.run.options),
                "digest": _digest(self._asked),
                "config": self._asked,
                **more,
            },
        )


def _digest(config: Any) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(to_json(content), indent=1) + "\n").encode())


def _first_difference(before: Any, now: Any) -> str:
    old, new = dict(_leaves(before)), dict(_leaves(now))
    for key in [*new, *old]:
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            said = [repr(d[key])[:40] if key in d else "not set" for d in (old, new)]
            return f"{key}: {said[0]} there, {said[1]} now"
    return "its record is damaged"


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values; an empty dict or list is a value."""
    if isinstance(node, dict | list) and node:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node
