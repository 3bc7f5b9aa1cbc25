"""What a checkpoint's history says of other files: paths and numbers that a hook will remove."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

_PATHS = ("best_ckpt", "last_ckpt")
_NUMBERS = ("keep_ckpt_ids", "rolling_ckpt_ids")


def drop_foreign_paths(message_hub: Any, out_dir: str, source: str) -> None:
    """Forget, in place, what lies elsewhere than the checkpoints that this run writes.

    MMEngine removes the file, or the folder, that ``best_ckpt`` names as soon as
    there is a better one, and a checkpoint may come from anywhere.

    Args:
        message_hub: A checkpoint's ``message_hub``.
        out_dir: The directory of checkpoints. A path stays that is a file right
            in it, and so does a list of numbers where the checkpoint lies there.
        source: The checkpoint. From elsewhere, its numbers are of other files than
            those that have these numbers here.
    """
    told = message_hub.get("runtime_info") if isinstance(message_hub, Mapping) else None
    if not isinstance(told, dict):
        return
    for name in list(told):
        is_path = isinstance(name, str) and name.startswith(_PATHS)
        if not isinstance(name, str) or (is_path and not _lies_in(told[name], out_dir)):
            del told[name]
        elif name in _NUMBERS:
            are_own = _lies_in(source, out_dir) and isinstance(told[name], list | tuple)
            numbers = told[name] if are_own else []
            told[name] = [n for n in numbers if type(n) is int and n >= 0]


def directory_of(hook: CheckpointHook, runner: Runner) -> str:
    """Return where a hook writes, also before its ``before_train`` has settled it."""
    work_dir = str(runner.work_dir)
    if hook.out_dir is None or str(hook.out_dir) == work_dir:
        return work_dir
    name = os.path.basename(work_dir.rstrip(os.sep))
    return os.path.join(str(hook.out_dir), name)


def _lies_in(path: Any, out_dir: str) -> bool:
    if not isinstance(path, str) or "\0" in path or not path.endswith(".pth"):
        return False
    # A link in the directory is removed itself, so its own place counts.
    folder, name = os.path.split(path)
    is_same = os.path.realpath(folder or ".") == os.path.realpath(out_dir)
    return is_same and bool(name) and not os.path.isdir(path)
