"""Which tar files a user means: braces, wildcards, folders and addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from msn_mm.datasets.file_patterns import local_files
from msn_mm.errors import UserError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def webdataset() -> ModuleType:
    """Return the library whose format this is.

    Raises:
        UserError: It is not installed.
    """
    try:
        import webdataset
    except ImportError as error:
        raise UserError("tar shards need webdataset: pip install 'msn_mm[shards]'") from error
    return webdataset


def is_address(shard: str) -> bool:
    """Whether a shard is no local file: ``https:``, ``s3:``, ``gs:``, ``hf:``, ``pipe:`` ..."""
    return _ADDRESS.match(shard) is not None and not shard.lower().startswith("file:")


def find_shards(data_root: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the shards that a user names, local ones as paths, each once, in order.

    Args:
        data_root: One or several of: a folder (its ``*.tar``, however deep, sorted), a
            file, a pattern with ``*``, ``?`` or ``[]`` (sorted), an address. Each with
            braces, ``{000..146}`` or ``{train,val}``, as bash and webdataset expand them.

    Raises:
        UserError: webdataset is not installed, or there is no such shard.
    """
    given = [data_root] if isinstance(data_root, str | Path) else list(data_root)
    found: list[str] = []
    for entry in given:
        for text in _expanded(str(entry)):
            found += [text] if is_address(text) else local_files(text, ".tar", "tar shard")
    for shard in found:
        if shard.lower().endswith(_COMPRESSED):
            raise UserError(
                f"shard {shard} is compressed, which forbids reading from the middle; unpack it "
                "to a .tar (images do not get smaller by it)"
            )
    if not found:
        raise UserError("no tar shard was named; set data_root to a folder or to x/{000..146}.tar")
    return list(dict.fromkeys(found))


def _expanded(text: str) -> list[str]:
    library = webdataset()
    try:
        return list(library.shardlists.expand_urls(text))
    except Exception as error:  # unbalanced braces, a ${variable} that is not set
        raise UserError(f"cannot expand {text}: {error}") from error
