"""Robustness of a classifier: ``python tools/robustness.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.evaluation.robustness.corruption_error import (
    ALEXNET_ERRORS,
    CORRUPTIONS,
    SEVERITIES,
)
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_folder
from msn_mm.utils.protocol_options import add_computing, add_rows, add_seed, check_rows

OWN_IMAGES = "config"
FOLDERS = ("imagenet_a", "imagenet_r", "imagenet_sketch")
DATA = (*FOLDERS, "imagenet_c", "corrupt")


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="robustness.py",
        description="Accuracy of a fine-tuned or supervised classifier on ImageNet-A, -R, -Sketch "
        "and -C, as in appendix F of the paper (table 14), or on any labelled images that are "
        "corrupted like ImageNet-C's; several checkpoints give one table.",
    )
    add_rows(parser)
    data = parser.add_argument_group("data")
    for kind, what in (
        ("imagenet-a", "ImageNet-A: 200 folders by WordNet id"),
        ("imagenet-r", "ImageNet-R: 200 folders by WordNet id"),
        ("imagenet-sketch", "ImageNet-Sketch: 1,000 folders by WordNet id"),
        ("imagenet-c", "ImageNet-C: 15 folders of corruptions, each with severities 1 to 5"),
    ):
        data.add_argument(f"--{kind}", metavar="DIR", help=what)
    data.add_argument(
        "--corrupt",
        metavar=f"DIR|{OWN_IMAGES}",
        help="images to corrupt on the fly: a folder with one folder a class, or "
        f"'{OWN_IMAGES}' for the config's held-out images",
    )
    data.add_argument(
        "--corruptions",
        nargs="+",
        choices=CORRUPTIONS,
        metavar="NAME",
        help="with --corrupt: only these (default: all 15)",
    )
    data.add_argument(
        "--severities",
        nargs="+",
        type=int,
        choices=SEVERITIES,
        metavar="1..5",
        help="with --corrupt: only these (default: all 5)",
    )
    add_seed(data, "random corruptions")
    parser.add_argument(
        "--baseline",
        nargs="+",
        metavar="WORD",
        help="CONFIG CHECKPOINT [NAME] of a further row, relative to whose errors on corrupted "
        "images those of the others are told",
    )
    add_computing(parser.add_argument_group("computing"))
    add_out(parser, "work_dirs/<config name>/robustness")
    add_cfg_options(parser)
    # one feature, the answer, and nothing to keep of it
    parser.set_defaults(blocks=1, norm=False, cache=None)
    args = parser.parse_args(argv)
    if all(getattr(args, kind) is None for kind in DATA):
        options = ", ".join(f"--{kind.replace('_', '-')}" for kind in DATA)
        raise UserError(f"nothing to measure on: give at least one of {options}")
    if args.corrupt is None and (args.corruptions or args.severities or args.baseline):
        raise UserError("--corruptions, --severities and --baseline go with --corrupt")
    if args.baseline:
        if len(args.baseline) not in (2, 3):
            raise UserError(
                f"--baseline takes CONFIG CHECKPOINT [NAME], not '{' '.join(args.baseline)}'"
            )
        args.row = [*args.row, args.baseline]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    for kind in DATA:
        folder = getattr(args, kind)
        if folder is not None and (kind, folder) != ("corrupt", OWN_IMAGES):
            check_folder(f"--{kind.replace('_', '-')}", folder)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.robustness.comparison import Sources, compare
    from msn_mm.evaluation.robustness.corrupted_view import LIBRARY, library_version
    from msn_mm.evaluation.robustness.finished_passes import FinishedPasses
    from msn_mm.evaluation.robustness.measuring import Measuring
    from msn_mm.evaluation.robustness.tables import notes, robustness_tables
    from msn_mm.evaluation.rows import read_rows, results_of_rows
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.corruption_chart import plot_corruptions

    started = time.perf_counter()
    run = start_extraction(args)
    rows = read_rows(args)
    is_own = args.corrupt == OWN_IMAGES
    sources = Sources(
        folders={kind: getattr(args, kind) for kind in FOLDERS if getattr(args, kind)},
        imagenet_c=args.imagenet_c,
        corrupt=None if is_own else args.corrupt,
        own=rows[0].cfg if is_own else None,
        corruptions=[c for c in CORRUPTIONS if c in (args.corruptions or CORRUPTIONS)],
        severities=sorted(set(args.severities or SEVERITIES)),
        seed=args.seed,
    )
    warnings = sources.check()
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "robustness"))
    for line in warnings if run.is_first else ():
        print(f"warning: {line}", file=sys.stderr)
    finished = FinishedPasses(out / "passes.json") if run.is_first else None
    metrics = compare(
        rows,
        sources,
        Measuring(run.batch_size, run.workers, finished),
        device=run.device,
        amp=run.amp,
        baseline=rows[-1].name if args.baseline else None,
    )
    if finished is None:
        return 0
    pictures = []
    for kind in ("imagenet_c", "corrupted"):
        measured = {name: one[kind] for name, one in metrics.items() if kind in one}
        if measured:
            pictures.append(out / f"{kind}.png")
            alexnet = ("AlexNet", ALEXNET_ERRORS) if kind == "imagenet_c" else None
            plot_corruptions(measured, pictures[-1], alexnet)
    write_results(
        out / "results.json",
        tool="robustness",
        settings={
            **{kind: getattr(args, kind) for kind in DATA},
            "corruptions": sources.corruptions,
            "severities": sources.severities,
            "seed": args.seed,
            "corrupted_by": f"{LIBRARY} {library_version()}" if args.corrupt else None,
            "baseline": rows[-1].name if args.baseline else None,
            "precision": "bfloat16 autocast" if run.amp else "float32",
            "batch_size": run.batch_size,
            "workers": run.workers,
            "processes": run.processes,
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print(robustness_tables(metrics))
    for line in notes(metrics, finished.found):
        print(f"\n{line}", end="")
    print(f"\n{''.join(f'picture: {path}{chr(10)}' for path in pictures)}", end="")
    print(f"results: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
