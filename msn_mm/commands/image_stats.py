"""Tell what a folder's images hold, and how a config reads and normalises them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from msn_mm.utils.early_checks import check_folder, check_output_file
from msn_mm.utils.protocol_options import add_seed, positive

HELP = "tell what a folder's images hold, and how a config reads and normalises them"
SAMPLE = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder of images, however deep")
    parser.add_argument(
        "--sample",
        type=positive,
        default=SAMPLE,
        metavar="N",
        help="look at so many images, drawn at random (default: %(default)s)",
    )
    parser.add_argument(
        "--channels",
        type=positive,
        metavar="C",
        help="how many channels an image has, where pages of a TIFF are channels "
        "(default: what the files say)",
    )
    parser.add_argument("--out", metavar="FILE", help="write the numbers there too, .json")
    add_seed(parser, "the sample")


def run(args: Any) -> int:
    """Look, and tell."""
    check_folder("IMAGES_DIR", args.images)
    if args.out is not None:
        check_output_file(args.out, (".json",))
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.datasets.image_statistics import folder_statistics
    from msn_mm.datasets.statistics_report import statistics_report
    from msn_mm.utils.progress import Progress
    from msn_mm.utils.results import write_results

    started = time.perf_counter()
    with Progress(args.sample, "images") as shown:

        def step(done: int, total: int) -> None:
            shown.total = total
            shown.to(done)

        found = folder_statistics(args.images, args.sample, args.channels, args.seed, step)
    print(statistics_report(found, args.images))
    if args.out is not None:
        settings = {"images": args.images, "sample": args.sample, "seed": args.seed}
        settings["channels"] = args.channels
        seconds = time.perf_counter() - started
        out = Path(args.out)
        write_results(out, "msn-mm image-stats", None, None, settings, found.to_json(), seconds)
        print(f"\nresults: {out}")
    return 0
