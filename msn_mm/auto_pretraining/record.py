"""What a directory's training was begun with, so that the same command goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.results import to_json, write_atomically

RECORD = "pretrain.json"
CONFIG = "pretrain.py"


@dataclass(frozen=True)
class Record:
    """A training as it was begun.

    Attributes:
        options: What the user gave, by the option's name.
        images: Number of images.
        digest: Of their paths.
        config: SHA-256 of the config as it was written.
        epochs: Its length.
        predicted_s: Seconds that it was to take.
        finished: Why and when it ended; empty while it has not.
    """

    options: dict[str, Any]
    images: int
    digest: str
    config: str
    epochs: int
    predicted_s: float
    finished: dict[str, Any] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Write the record into the directory of the training."""
        write_atomically(
            out / RECORD, (json.dumps(to_json(asdict(self)), indent=2) + "\n").encode()
        )


def read_record(out: Path) -> Record | None:
    """Return a directory's record; ``None`` where nothing was begun.

    Raises:
        UserError: The record is damaged, or the directory holds another training.
    """
    path = out / RECORD
    try:
        content = json.loads(path.read_text())
        return Record(**{key: content[key] for key in Record.__dataclass_fields__})
    except FileNotFoundError:
        if any(out.glob("*.pth")):
            raise UserError(
                f"{out} holds checkpoints of another training; name another directory by --out"
            ) from None
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); name another directory by --out"
        ) from error


def check_same(record: Record, options: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with a training that was begun with other options.

    Raises:
        UserError: Telling what differs.
    """
    differing = [
        f"{_spell(name, record.options.get(name))} and now {_spell(name, options.get(name))}"
        for name in {**record.options, **options}
        if record.options.get(name) != options.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} was begun with {'; '.join(differing)}: give the same to go on, or another "
            "--out to begin anew"
        )


def check_images(record: Record, images: int, digest: str, out: Path) -> None:
    """Refuse to go on when the folder holds other images.

    Raises:
        UserError: Telling what differs.
    """
    if (record.images, record.digest) == (images, digest):
        return
    now = f"{images:,}" if images != record.images else f"{images:,} others"
    raise UserError(
        f"{out} was begun with {record.images:,} images and the folder now has {now}: put it back, "
        "or give another --out to begin anew (--from goes on from what was learnt)"
    )


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a config that was written, nothing of one that is gone."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _spell(name: str, value: Any) -> str:
    if name == "IMAGES_DIR":
        return str(value)
    return f"no --{name}" if value is None else f"--{name} {value}"
