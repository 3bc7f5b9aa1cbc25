"""Mistakes in paths, told before anything heavy is loaded: a typo is answered at once.

What these checks let pass is checked again where it is used; a path may vanish
meanwhile.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import check_checkpoint, checkpoint_inputs, is_address
from msn_mm.utils.config_files import resolve_config_path
from msn_mm.utils.paths import user_path

# What MMEngine reads.
_CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")


def check_paths(
    config: str | None = None,
    checkpoint: str | None = None,
    out: str | None = None,
    folder: tuple[str, str | None] | None = None,
) -> None:
    """Look at what a command line names.

    Args:
        config: A config's path or a shipped one's name.
        checkpoint: A file, a directory or an address.
        out: The directory that is to be written.
        folder: An option and the directory of data that it names, if any.

    Raises:
        UserError: For the first thing that cannot work, with its mend.
    """
    if config is not None:
        check_config(config)
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    if folder is not None and folder[1] is not None:
        check_folder(folder[0], folder[1])
    if out is not None:
        check_output(out)


def check_config(path: str | Path) -> None:
    """Refuse a config that does not exist or is no Python.

    Raises:
        UserError: Naming the nearest shipped config, or the line of the mistake.
    """
    file = resolve_config_path(path)
    if file.suffix not in _CONFIG_SUFFIXES:
        raise UserError(f"config {path} is no config: its name must end in .py")
    try:
        source = file.read_bytes()
        if not source.strip():
            raise UserError(f"config {path} is empty; start from one of configs/")
        if file.suffix == ".py":
            ast.parse(source)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise UserError(f"cannot read config {path}{where}: SyntaxError: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read config {path}: {error}") from error


def check_folder(option: str, path: str) -> None:
    """Refuse a directory of data that is none.

    Raises:
        UserError: Naming the option.
    """
    if not user_path(path, option).is_dir():
        what = "is a file" if Path(path).exists() else "does not exist"
        raise UserError(f"{option}: data folder {path} {what}; give a directory of images")


def check_training_directory(path: str | Path) -> None:
    """Refuse a training's directory that is none.

    Raises:
        UserError: There is no such directory.
    """
    if not user_path(path, "WORK_DIR").is_dir():
        what = "is a file" if Path(path).exists() else "does not exist"
        raise UserError(f"work dir {path} {what}; give the directory that a training wrote")


def check_output(path: str, option: str = "--out") -> None:
    """Refuse an output directory that cannot be made or written; nothing is made yet.

    Raises:
        UserError: Naming the mend.
    """
    place = user_path(path, option)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        reason = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable"
    else:
        return
    raise UserError(f"cannot write to {option} {path}: {reason}; name a directory of yours")


def check_output_file(
    path: str,
    suffixes: Sequence[str],
    option: str = "--out",
    inputs: Mapping[str, str | None] | None = None,
    beside: Sequence[str] = (),
) -> None:
    """Refuse an output file that cannot be written, or is an input; nothing is made yet.

    Args:
        path: The file.
        suffixes: How its name may end.
        option: What names it.
        inputs: What is read, by what names it; ``None`` where that is not given.
        beside: Endings of further files that are written, of the same name.

    Raises:
        UserError: Naming the mend.
    """
    place = user_path(path, option)
    if place.is_dir() or not path.endswith(tuple(suffixes)):
        raise UserError(f"{option}: '{path}' must be a file that ends in {' or '.join(suffixes)}")
    check_output(str(place.parent), option)
    check_no_input([place, *map(place.with_suffix, beside)], inputs or {}, option)


def check_no_input(
    written: Sequence[Path], inputs: Mapping[str, str | None], option: str = "--out"
) -> None:
    """Refuse to write over what is read.

    Args:
        written: The files to be written.
        inputs: A file or a checkpoint's place, by what names it; ``None`` where
            that is not given.
        option: What names the output.

    Raises:
        UserError: Naming both.
    """
    there = [file for file in written if file.exists()]
    for name, given in inputs.items():
        if given is None or is_address(given):
            continue
        for read in checkpoint_inputs(user_path(given, name)):
            if read.exists() and any(read.samefile(file) for file in there):
                raise UserError(
                    f"{option}: '{read}' is an input ({name}) and would be written over; name "
                    "another place"
                )
