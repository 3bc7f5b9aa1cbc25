"""A training that is made to be killed: what its process imports and runs.

The processes are forked from a server that has imported everything already, so
that a kill costs a second and not the ten of a fresh interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import matplotlib.pyplot  # noqa: F401
import mmengine.config.config
import sklearn.datasets  # noqa: F401
import torch
from mmengine.fileio import register_backend

import msn_mm.datasets
import msn_mm.engine.summary
import msn_mm.models  # noqa: F401
import tools.train
from msn_mm.engine.atomic_backend import AtomicLocalBackend
from tests.helpers import tiny_digits

FAULTY_BACKEND = "faulty_local"


@register_backend(FAULTY_BACKEND, force=True)
class FaultyBackend(AtomicLocalBackend):
    """Writes slowly, and kills its own process at a chosen moment of a chosen save.

    Args:
        pause_s: rest in the middle of each file.
        die: ``"inside NAME"``, ``"before NAME"`` (all written, not yet renamed)
            or ``"after NAME"``.
    """

    def __init__(self, pause_s: float = 0.0, die: str = "") -> None:
        self.pause_s = pause_s
        self.die = die
        self.writing = ""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        self.writing = Path(filepath).name
        super().put(obj, filepath)
        self._die("after")

    def _write(self, file: IO[bytes], obj: bytes | memoryview) -> None:
        half = len(obj) // 2
        file.write(obj[:half])
        file.flush()
        self._die("inside")
        time.sleep(self.pause_s)
        file.write(obj[half:])
        file.flush()
        self._die("before")

    def _die(self, moment: str) -> None:
        if self.die == f"{moment} {self.writing}":
            os.kill(os.getpid(), signal.SIGKILL)


def write_digits(path: Path, **options: Any) -> Path:
    """Write the config of a tiny training on digits, for the tool to read."""
    cfg = tiny_digits(
        **{
            "default_hooks.checkpoint.interval": 1,
            "default_hooks.logger.interval": 1,
            "val_cfg": None,
            "val_dataloader": None,
            "val_evaluator": None,
            "custom_imports": dict(imports=["tests.fault_training"]),
            **options,
        }
    )
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)
    cfg.dump(path)
    return path


def start(
    config: Path, out: Path, resume: bool = False, workers: int = 0, **backend: Any
) -> BaseProcess:
    """Start ``tools/train.py`` in a process of its own; it appends to ``out.log``."""
    faulty = dict(backend=FAULTY_BACKEND, **backend)
    argv = [str(config), "--out", str(out), *(["--resume"] if resume else []), "--cfg-options"]
    argv.append(f"default_hooks.checkpoint.backend_args={faulty}")
    argv.append(f"train_dataloader.num_workers={workers}")
    argv.append(f"train_dataloader.persistent_workers={workers > 0}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fault_training"])
    process = context.Process(target=_train, args=(argv, log_of(out)))
    process.start()
    return process


def log_of(out: Path) -> Path:
    """Return the file of everything that the trainings in ``out`` have printed."""
    return out.with_name(out.name + ".log")


def _train(argv: list[str], log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = open(1, "w", 1, closefd=False)  # noqa: SIM115
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)  # yapf takes seconds
    torch.set_num_threads(1)
    try:
        sys.exit(tools.train.main(argv))
    except ValueError as error:  # a UserError is one
        print(f"error: {error}")
        sys.exit(2)
