"""What kind of checkpoint lies at a path, by its first bytes; nothing heavy is imported.

A tool asks before it loads torch, so that a wrong path is answered at once; the
reader asks again.
"""

from __future__ import annotations

import enum
import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path

# What a Hugging Face directory keeps its weights in, the best first.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
# Its settings, and those of its images.
SETTINGS = ("config.json", "preprocessor_config.json")

_ZIP, _PICKLE, _LFS = b"PK\x03\x04", b"\x80", b"version https://git-lfs"


class FileKind(enum.Enum):
    """The formats of tensor files."""

    ZIP = "torch.save's present format"
    PICKLE = "torch.save's first format"
    SAFETENSORS = "safetensors"


def is_address(source: str) -> bool:
    """Return whether a checkpoint is named by an address on the web."""
    return source.startswith(("http://", "https://"))


def check_address(address: str) -> None:
    """Refuse an address that names no host; it is not tried.

    Raises:
        UserError: It is none.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"'{address:.200}' is no address: {error}") from error
    if not host or any(c.isspace() for c in address):
        raise UserError(f"'{address:.200}' is no address: it names no host")


def check_checkpoint(
    source: str | Path, mend: str = "check the path", option: str = "checkpoint"
) -> None:
    """Refuse what cannot be a checkpoint; addresses are not tried.

    Args:
        source: A file, the directory of a training or of Hugging Face, or an
            ``http(s)`` address.
        mend: What to do where there is nothing.
        option: What names it.

    Raises:
        UserError: There is no such thing, or it is of another kind.
    """
    if is_address(str(source)):
        check_address(str(source))
        return
    path = user_path(source, option)
    if path.is_dir():
        if training_checkpoints(path):
            return  # which of them is whole, the reader finds out
        path = find_weights(path)
    elif not path.is_file():
        raise UserError(f"no such checkpoint: '{source}'; {mend}")
    if not path.name.endswith(INDEX):
        check_checkpoint_file(path)


def check_checkpoint_file(path: Path) -> FileKind:
    """Return a tensor file's kind.

    Raises:
        UserError: There is no such file, it is cut off, or of another kind.
    """
    if not path.is_file():
        raise UserError(f"no such checkpoint: '{path}'; check the path")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"cannot read checkpoint '{path}': {error.strerror}") from error
    if not start:
        raise UserError(f"'{path}' is not a whole checkpoint: it is empty; get it again")
    if start.startswith(_ZIP):
        # The archive's directory comes last, so a torn file has none.
        if not zipfile.is_zipfile(path):
            raise UserError(f"'{path}' is not a whole checkpoint: it is cut off; get it again")
        return FileKind.ZIP
    if start.startswith(_PICKLE):
        return FileKind.PICKLE
    if _begins_safetensors(start):
        return FileKind.SAFETENSORS
    if start.startswith(_LFS):
        raise UserError(f"'{path}' is not a whole checkpoint but a pointer to one: git lfs pull")
    if start.lstrip().startswith(b"<"):
        raise UserError(f"'{path}' is not a whole checkpoint but a web page; check its address")
    raise UserError(
        f"'{path}' is not a whole checkpoint: it is neither a file of torch.save nor safetensors"
    )


def training_checkpoints(directory: Path) -> list[Path]:
    """Return the files of a directory that a training names its checkpoints by, in no order."""
    named = re.compile(r"(?:epoch|iter)_\d+\.pth")
    return [path for path in directory.glob("*.pth") if named.fullmatch(path.name)]


def checkpoint_inputs(place: Path) -> list[Path]:
    """Return the files that may be read of a checkpoint: itself, or those of its directory."""
    if not place.is_dir():
        return [place]
    names = [*SETTINGS, *WEIGHTS, *(name + INDEX for name in WEIGHTS)]
    return training_checkpoints(place) or [place / name for name in names]


def is_safetensors(path: Path) -> bool:
    """Whether there is a file that begins as safetensors do, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _begins_safetensors(file.read(9))


def _begins_safetensors(start: bytes) -> bool:
    return len(start) > 8 and start[8:9] == b"{"


def find_weights(directory: Path) -> Path:
    """Return the file of a Hugging Face directory that holds its weights or lists their files.

    Raises:
        UserError: There is none.
    """
    for weights in WEIGHTS:
        for candidate in (directory / weights, directory / (weights + INDEX)):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"directory '{directory}' has no {' or '.join(WEIGHTS)}, and no epoch_*.pth or iter_*.pth "
        "of a training; give the checkpoint file itself"
    )
