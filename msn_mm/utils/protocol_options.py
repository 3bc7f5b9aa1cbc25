"""Command-line arguments that the tools for frozen features share; nothing heavy is imported."""

from __future__ import annotations

import argparse
import os

NO_CHECKPOINT = "none"
CROSS_VALIDATION = "cv"
CACHE_DIRECTORY = "work_dirs/features"


def default_workers() -> int:
    """Data workers of a process: one a core of its share, 8 at most."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, (os.cpu_count() or 1) // processes))


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, CHECKPOINT ..., ``--row`` and ``--names`` to a tool."""
    parser.add_argument("config", help="config of the model; its labelled data are measured on")
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="weights, one row of the table each; 'none' for those that the config builds",
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


def add_splits(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """Add ``--splits`` and ``--seed``.

    Args:
        parser: The parser or a group of it.
        what: What else than the splits the seed draws, for its help.
    """
    parser.add_argument(
        "--splits",
        type=_positive,
        default=3,
        metavar="N",
        help="label splits of each number (default: %(default)s)",
    )
    add_seed(parser, f"the splits{what}")


def add_seed(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """Add ``--seed``, a whole number."""
    parser.add_argument(
        "--seed",
        type=_not_negative,
        default=0,
        metavar="N",
        help=f"seed of {what} (default: %(default)s)",
    )


def add_extraction_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how features are computed, and what a feature is."""
    group = parser.add_argument_group("features")
    group.add_argument(
        "--blocks",
        type=_positive,
        default=1,
        metavar="N",
        help="CLS tokens of the last N blocks, concatenated (default: %(default)s)",
    )
    group.add_argument(
        "--norm", action="store_true", help="after the final norm (default: before it, as released)"
    )
    group.add_argument(
        "--batch-size", type=_positive, default=64, metavar="B", help="default: %(default)s"
    )
    group.add_argument(
        "--workers",
        type=_not_negative,
        default=default_workers(),
        metavar="W",
        help="data workers of each process (default: %(default)s)",
    )
    group.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
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
    group.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="default: pytorch when torchrun started the tool",
    )


def add_classifier_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--lambd``, a number above 0 or ``cv``, and ``--solver``."""
    group = parser.add_argument_group("classifier")
    group.add_argument(
        "--lambd",
        type=_lambd,
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


def _lambd(text: str) -> float | str:
    if text == CROSS_VALIDATION:
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a number above 0 nor {CROSS_VALIDATION}"
        )
    return value


def _positive(text: str) -> int:
    return _whole(text, 1)


def _not_negative(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
    return int(text)
