"""Where the shipped configs lie, and which file a name means; nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import msn_mm
from msn_mm.errors import UserError, did_you_mean
from msn_mm.utils.paths import user_path


def config_directories() -> list[Path]:
    """Return the directories that hold the shipped configs: the repository's, the package's."""
    package = Path(msn_mm.__file__).resolve().parent
    candidates = [package.parent / "configs", package / "configs"]
    # Beside an installed package another project's `configs` may lie.
    return [d for d in candidates if (d / "_base_").is_dir()]


def resolve_config_path(path: str | Path) -> Path:
    """Return the file of a config, given as a path or by a shipped config's name.

    ``configs/msn_vits16.py``, ``msn_vits16.py`` and ``msn_vits16`` all find the
    shipped config from any directory; a file that exists as given comes first.

    Raises:
        UserError: when there is none, naming the nearest shipped config.
    """
    user_path(path, "config")
    given = Path(path)
    if given.is_file():
        return given
    if given.is_dir():
        raise UserError(f"config {path} is a directory; give one of its files")
    inner = Path(*given.parts[1:]) if given.parts[:1] == ("configs",) else given
    if not given.is_absolute():
        for directory in config_directories():
            for name in (inner, inner.with_name(inner.name + ".py")):
                if (directory / name).is_file():
                    return directory / name
    shipped = sorted(
        file.relative_to(directory).as_posix()
        for directory in config_directories()
        for file in directory.rglob("*.py")
        if "_base_" not in file.parts
    )
    wanted = inner.name if inner.suffix == ".py" else f"{inner.name}.py"
    near = difflib.get_close_matches(wanted, shipped, n=1, cutoff=0.5)
    hint = f" Did you mean 'configs/{near[0]}'?" if near else ""
    raise UserError(f"no such config: '{path}'.{hint}")


def find_data(data: str | Path) -> Path:
    """Return the file or the folder that names data for an evaluation.

    Args:
        data: Name of a file of ``configs/eval``, a config, or a folder. A name
            comes before a folder of the same name.

    Raises:
        UserError: There is no such data; names the nearest shipped one.
    """
    text = str(data)
    if re.fullmatch(r"[\w-]{1,100}", text):
        for directory in config_directories():
            path = directory / "eval" / f"{text}.py"
            if path.is_file():
                return path
    folder = user_path(data, "data")
    if text.endswith(".py") or Path(data).is_file():
        return resolve_config_path(text)
    if folder.is_dir():
        return folder
    names = _data_names()
    raise UserError(
        f"no data set, config or folder '{text}'.{did_you_mean(text, names)} "
        f"Known names: {', '.join(names)}"
    )


def _data_names() -> list[str]:
    """Return the names of the shipped data sets; other files lie beside them."""
    files = [file for folder in config_directories() for file in (folder / "eval").glob("*.py")]
    return sorted({f.stem for f in files if re.search(r"^data\s*=", f.read_text(), re.MULTILINE)})
