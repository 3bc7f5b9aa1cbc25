"""Data sets built from their configs, those that download themselves too."""

from __future__ import annotations

import socket
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

# A server that says nothing for so long is taken for no internet, in seconds.
_SILENCE_S = 30.0


def build_data(config: Mapping[str, Any] | BaseDataset) -> BaseDataset:
    """Build a data set, telling in one line why one that downloads itself cannot.

    Raises:
        UserError: The download failed; names the archive and where to put it.
    """
    if not isinstance(config, Mapping):
        return config
    kind = config.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if kind is None or not hasattr(kind, "url") or not config.get("data_root"):
        return DATASETS.build(config)
    config = {**config, "data_root": str(Path(config["data_root"]).expanduser())}
    try:
        with _no_endless_silence():
            return DATASETS.build(config)
    # What mmpretrain's downloads meet; its checks of the files are assertions.
    except (OSError, EOFError, RuntimeError, AssertionError, tarfile.TarError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, AssertionError) and not reason.startswith("Download failed"):
            raise UserError(f"{kind.__name__}: {reason}") from error
        raise UserError(
            f"cannot get {kind.__name__} ({reason}): download {kind.url} and put it, as it is, "
            f"into the folder {config['data_root']}"
        ) from error


@contextmanager
def _no_endless_silence() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S if before is None else before)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
