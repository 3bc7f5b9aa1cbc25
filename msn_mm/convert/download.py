"""Files from the web, kept in a cache; a download that was cut off goes on where it ended."""

from __future__ import annotations

import hashlib
import os
import re
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from msn_mm.errors import UserError

CACHE_VARIABLE = "MSN_MM_CACHE"
_CHUNK = 1 << 20
_TIMEOUT = 60.0
# torch.hub's and OpenMMLab's custom: the name ends in the first eight digits of
# the file's SHA-256. A date such as 20220826 is none.
_HASH_IN_NAME = re.compile(r"-(?!20\d{6}\.)([0-9a-f]{8})\.(?:pth|pt|bin|safetensors)$")


def cache_directory() -> Path:
    """Return where downloads are kept: ``$MSN_MM_CACHE``, else ``~/.cache/msn_mm``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "msn_mm"


def download(url: str, sha256: str | None = None) -> Path:
    """Return a local copy of the file at an address, downloaded once.

    Neither ``torch.hub`` nor ``huggingface_hub``'s public functions resume the
    download of any address.

    Args:
        url: ``http(s)`` address.
        sha256: Hexadecimal hash, or the beginning of one. Without it the one
            that the file's name carries, if it does.

    Raises:
        UserError: The address does not answer, or the file is another than wanted.
    """
    name = Path(unquote(urlsplit(url).path)).name
    if not name:
        raise UserError(f"'{url}' names no file; give the address of the checkpoint itself")
    folder = cache_directory() / "checkpoints" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / name
    published = _HASH_IN_NAME.search(name)
    wanted = (sha256 or (published[1] if published else "")).lower()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not path.is_file():
            part = path.with_name(name + ".part")
            _fetch(url, part)
            _check(part, url, wanted)
            part.replace(path)
            _tag_of(part).unlink(missing_ok=True)
        elif sha256:
            _check(path, url, wanted)
    return path


def _fetch(url: str, part: Path) -> None:
    """Download to ``part``; what is there of the same version of the file is kept."""
    try:
        try:
            _receive(url, part)
        except HTTPError as error:
            if error.code != 416:  # the part is no part of what is there now
                raise
            part.unlink(missing_ok=True)
            _receive(url, part)
    except HTTPError as error:
        raise UserError(f"'{url}' cannot be downloaded: {error.code} {error.reason}") from error
    except URLError as error:
        raise UserError(f"'{url}' cannot be downloaded: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise UserError(
            f"the download of '{url}' broke off ({error}); call again and it goes on"
        ) from error


def _receive(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    tag = _tag_of(part).read_text().strip() if _tag_of(part).is_file() else ""
    headers = {"User-Agent": "msn_mm", "Accept-Encoding": "identity"}
    # Only what the server can tell apart from a newer file may be continued.
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    else:
        have = 0
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        if answer.status != 206:
            have = 0
        _tag_of(part).write_text(_version(answer.headers))
        rest = answer.headers.get("Content-Length")
        total = None if rest is None else have + int(rest)
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None
            ) as bar,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and part.stat().st_size != total:
        raise OSError(f"{part.stat().st_size:,} of {total:,} bytes arrived")


def _version(headers: Message) -> str:
    """What identifies a version of the file byte by byte; empty when nothing does."""
    tag = headers.get("ETag") or ""
    return "" if tag.startswith("W/") else tag or headers.get("Last-Modified") or ""


def _check(path: Path, url: str, wanted: str) -> None:
    if not wanted:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted):
        path.unlink()
        raise UserError(
            f"'{url}' is another file than wanted: its SHA-256 is {found[: len(wanted)]} and not "
            f"{wanted}"
        )


def _tag_of(part: Path) -> Path:
    return part.with_name(part.name + ".tag")
