"""Command-line arguments that the tools for frozen features share; nothing heavy is imported."""

from __future__ import annotations

import argparse
import math
import os
import re
from typing import Any, Final

from msn_mm.errors import UserError
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.cpu_cores import cpu_cores
from msn_mm.utils.early_checks import check_config, check_output
from msn_mm.utils.paths import user_path

NO_CHECKPOINT = "none"
_NO_CHECKPOINT = f"give a file, or '{NO_CHECKPOINT}' for the weights that the config builds"
CROSS_VALIDATION: Final = "cv"
CACHE_DIRECTORY = "work_dirs/features"
# cyanure's is the narrowest of all generators' seeds, an int32.
_LARGEST_SEED = 2**31 - 1


def default_workers() -> int:
    """Data workers of a process: one a core of its share of :func:`cpu_cores`, 8 at most."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, cpu_cores() // processes))


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, CHECKPOINT ..., ``--row`` and ``--names`` to a tool."""
    parser.add_argument("config", help="config of the model; its labelled data are measured on")
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="weights, one row of the table each: a file, an address, or the directory of a "
        "training (its newest checkpoint); 'none' for those that the config builds",
    )
    parser.add_argument(
        "--row",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="a further row: CONFIG CHECKPOINT [NAME], of any backbone that the registry knows",
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="what the table calls the checkpoints"
    )


def row_words(args: Any) -> list[tuple[str, str | None, str | None]]:
    """Return config, checkpoint (``None``: as the config builds it) and name of each row.

    Args:
        args: What :func:`add_rows` parses.

    Raises:
        UserError: A row has too few words, or there are not as many names as checkpoints.
    """
    names = args.names or [None] * len(args.checkpoints)
    if len(names) != len(args.checkpoints):
        raise UserError(
            f"--names has {len(names)} names for {len(args.checkpoints)} checkpoints; "
            "give one name a checkpoint"
        )
    rows = [
        (args.config, checkpoint_of(checkpoint), name)
        for checkpoint, name in zip(args.checkpoints, names, strict=True)
    ]
    for words in args.row:
        if len(words) not in (2, 3):
            raise UserError(f"--row takes CONFIG CHECKPOINT [NAME], not '{' '.join(words)}'")
        rows.append((words[0], checkpoint_of(words[1]), words[2] if len(words) == 3 else None))
    return rows


def checkpoint_of(word: str) -> str | None:
    """Return the checkpoint that a command line names, ``None`` for the word ``none``."""
    return None if word == NO_CHECKPOINT else word


def check_rows(args: Any) -> None:
    """Look at the files that a comparison names, and at where it writes.

    Raises:
        UserError: For the first that cannot work.
    """
    rows = row_words(args)
    for config in dict.fromkeys(config for config, *_ in rows):
        check_config(config)
    for _, checkpoint, _ in rows:
        if checkpoint is not None:
            # a forgotten file should not wait for the rows before it
            check_checkpoint(checkpoint, _NO_CHECKPOINT)
    if args.out is not None:
        check_output(args.out)
    if getattr(args, "cache", None) is not None:
        user_path(args.cache, "--cache")


def add_splits(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """Add ``--splits`` and ``--seed``.

    Args:
        parser: The parser or a group of it.
        what: What else than the splits the seed draws, for its help.
    """
    parser.add_argument(
        "--splits",
        type=positive,
        default=3,
        metavar="N",
        help="label splits of each number (default: %(default)s)",
    )
    add_seed(parser, f"the splits{what}")


def add_seed(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """Add ``--seed``; see :func:`random_seed`."""
    parser.add_argument(
        "--seed",
        type=random_seed,
        default=0,
        metavar="N",
        help=f"seed of {what} (default: %(default)s)",
    )


def add_extraction_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how features are computed, and what a feature is."""
    group = parser.add_argument_group("features")
    group.add_argument(
        "--blocks",
        type=positive,
        default=1,
        metavar="N",
        help="CLS tokens of the last N blocks, concatenated (default: %(default)s)",
    )
    group.add_argument(
        "--norm", action="store_true", help="after the final norm (default: before it, as released)"
    )
    add_computing(group)
    add_cache(group)


def add_cache(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--cache DIR`` and ``--no-cache``."""
    cache = group.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache",
        default=CACHE_DIRECTORY,
        metavar="DIR",
        help="where features are kept for the next tool (default: %(default)s)",
    )
    cache.add_argument(
        "--no-cache", dest="cache", action="store_const", const=None, help="keep no features"
    )


def add_computing(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add :func:`add_batches` and ``--launcher``."""
    add_batches(group)
    group.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="default: pytorch when torchrun started the tool",
    )


def add_batches(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add how images are read and computed with, on which no number depends but for ``--amp``."""
    group.add_argument(
        "--batch-size", type=positive, default=64, metavar="B", help="default: %(default)s"
    )
    group.add_argument(
        "--workers",
        type=not_negative,
        default=default_workers(),
        metavar="W",
        help="data workers of each process (default: %(default)s)",
    )
    group.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")


def add_classifier_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--lambd``, a number above 0 or ``cv``, and ``--solver``."""
    group = parser.add_argument_group("classifier")
    group.add_argument(
        "--lambd",
        type=lambd_or_cv,
        default=0.0025,
        metavar="L|cv",
        help="L2 regularisation (default: %(default)s, as released); cv: chosen by "
        "cross-validation within the labelled images",
    )
    group.add_argument(
        "--solver",
        choices=("auto", "qning-ista", "qning-miso", "catalyst-miso"),
        default="auto",
        help="cyanure's algorithm (default: %(default)s, as released); qning-ista is faster with "
        "hundreds of classes and reaches the same optimum",
    )


def lambd_or_cv(text: str) -> float | str:
    """Read a regularisation above 0, or the word for cross-validation."""
    if text == CROSS_VALIDATION:
        return text
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a number above 0 nor {CROSS_VALIDATION}"
        )
    return value


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole(text, 0)


def random_seed(text: str) -> int:
    """Read a seed: a whole number from 0 to 2^31 - 1, which all random generators take."""
    value = not_negative(text)
    if value > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a whole number from 0 to {_LARGEST_SEED}"
        )
    return value


def mask_ratio(text: str) -> float:
    """Read a share of patches to drop, between 0 and 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 1; try 0.7")
    return value


def mask_ratio_or_0(text: str) -> float:
    """Read a share of patches to drop, 0 for whole images."""
    return 0.0 if _number(text) == 0 else mask_ratio(text)


def fraction(text: str) -> float:
    """Read a share of the images, above 0 and at most 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not in (0, 1]; 1 % is 0.01")
    return value


def fraction_below_1(text: str) -> float:
    """Read a share between 0 and 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 1; 5 % is 0.05")
    return value


def above_0(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def probability(text: str) -> float:
    """Read a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not in [0, 1]")
    return value


def feature_name(text: str) -> str:
    """Read what a linear head sees: ``cls1``, ``cls4+avg``."""
    if not re.fullmatch(r"cls[1-9][0-9]*([+]avg)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of cls1, cls4, cls1+avg, cls4+avg, ...")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
    return int(text)
