"""What all command lines share: how they fail, and the arguments every one takes."""

from __future__ import annotations

import argparse
import ast
import gc
import io
import logging
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from msn_mm.errors import UserError, did_you_mean
from msn_mm.utils.paths import user_path

# A thread of a CPU training waits for its fellows several hundred times a step.
# GNU OpenMP lets it spin for long by default, which on a machine with anything
# else to do makes a step ten times slower; a short spin costs nothing on an idle
# one. It is read when torch is loaded, so a tool imports this module first.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Likewise: what Apple's GPU has no kernel for is computed on the CPU instead of failing.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

Main = Callable[[Sequence[str] | None], int | None]

USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130


# Options that name a place.
_PLACES = ("out", "work_dir", "resume", "load_from", "cache")


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser that reports a mistake as :class:`UserError` instead of exiting."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; an empty name of a place is no name, and not the default.

        A shell leaves the ``~`` of ``--out=~/x`` as it is. It is expanded here, so
        that the place that is checked is the one that is written.
        """
        parsed = super().parse_args(*args, **kwargs)
        for option in _PLACES:
            name, value = f"--{option.replace('_', '-')}", getattr(parsed, option, None)
            if value == "":
                raise UserError(f"{name} got an empty name; give a path")
            if isinstance(value, str) and value.startswith("~"):
                setattr(parsed, option, str(user_path(value, name)))
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is no choice, and name the nearest; argparse does so from Python 3.14 on."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = did_you_mean(str(value), map(str, action.choices or ()))
            if near:
                error.message += f".{near}"
            raise

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def run_tool(main: Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a tool's ``main`` and leave the process with the right status.

    Statuses: what ``main`` returns (``None`` counts as 0); 2 after a
    :class:`UserError`, told in one line on standard error without a traceback;
    130 after an interrupt. Every other exception is a bug and keeps its
    traceback. In a distributed run one process tells the error, not all. What
    standard output cannot encode is printed as escapes.

    Args:
        main: takes the arguments (``None``: those of the process).
        argv: arguments to hand to ``main``.
    """
    _let_names_be_printed()
    try:
        status = main(argv)
    except UserError as error:
        line = " ".join(str(error).split())
        if _speaks_first(line):
            print(f"error: {line}", file=sys.stderr, flush=True)
        _leave(error.status)
    except KeyboardInterrupt:
        if _local_rank() == 0:
            print("interrupted", file=sys.stderr, flush=True)
        _leave(INTERRUPTED_STATUS)
    except Exception:
        if _distributed() is None:
            raise
        traceback.print_exc()
        _leave(1)
    group = _distributed()
    if group is not None:
        # What main left in cycles may hold parts of the group: they end before the interpreter.
        gc.collect()
        group.destroy_process_group()
    sys.exit(status or 0)


def _let_names_be_printed() -> None:
    """Print what a terminal's encoding lacks, or a file name that is not UTF-8, as escapes."""
    # standard error does so by itself
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _distributed() -> Any:
    """Return ``torch.distributed`` where a process group exists, else ``None``."""
    torch = sys.modules.get("torch")
    found = getattr(torch, "distributed", None)
    return found if found and found.is_available() and found.is_initialized() else None


def _leave(status: int) -> NoReturn:
    """Leave after a failure, whatever the other processes of the run are waiting for.

    Threads of a process group that are in the middle of an exchange can neither
    be joined, because the others may never come, nor be left to the
    interpreter's end, which they turn into SIGABRT: the process ends here.
    """
    if _distributed() is None:
        sys.exit(status)
    for child in multiprocessing.active_children():
        child.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _speaks_first(line: str) -> bool:
    """Return whether this process is the one to print ``line``.

    Before the process group exists an error is common to a machine, so its
    first process speaks. Later it may concern any one rank: whoever reports the
    line first to the group's store speaks.
    """
    group = _distributed()
    if group is None:
        return _local_rank() == 0
    try:
        store = group.distributed_c10d._get_default_store()
        return int(store.add(f"msn_mm/error/{line}", 1)) == 1
    except Exception:  # the store is gone with its host: better said twice than never
        return True


def parse_value(text: str) -> Any:
    """Return the Python value that ``text`` spells; a string when it spells none.

    Numbers, ``True``/``true``, ``None``, quoted strings, lists, tuples and
    dicts are read as Python literals, ``1,2`` as a list and ``[a, b]`` as a
    list of strings. Everything else stays as it is, so a path keeps its commas
    and spaces.
    """
    plain = {"true": True, "false": False, "none": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if len(text) > 1 and text[0] + text[-1] in ("[]", "()"):
            items = [parse_value(item.strip()) for item in text[1:-1].split(",") if item.strip()]
            return items if text[0] == "[" else tuple(items)
        return text
    if isinstance(value, tuple) and not text.startswith("("):
        return list(value)
    return value


class _CfgOptions(argparse.Action):
    """Collect ``key=value`` words into a dict, over repeated uses of the option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for word in values:
            key, equals, text = word.partition("=")
            if not equals or not key:
                raise UserError(f"--cfg-options takes key=value, not '{word}'")
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options k=v ...``; it parses to a dict ``cfg_options`` (default empty)."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_CfgOptions,
        default={},
        metavar="KEY=VALUE",
        help="change settings of the config, e.g. train_cfg.max_epochs=5 data_root=/my/images",
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--out DIR``; ``default`` only words the help, the parsed default is ``None``."""
    parser.add_argument(
        "--out", metavar="DIR", help=f"directory for everything written (default: {default})"
    )
