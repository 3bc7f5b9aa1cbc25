"""Low-shot accuracy of frozen features: ``python tools/lowshot.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.labelled_options import add_labelled_images, settle_labelled_images
from msn_mm.utils.protocol_options import (
    add_classifier_options,
    add_extraction_options,
    add_rows,
    check_rows,
    mask_ratio,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="lowshot.py",
        description="L2-regularised logistic regression on frozen features of a few labelled "
        "images, as in appendix C.2 of the paper; several checkpoints give one table.",
    )
    add_rows(parser)
    add_labelled_images(parser, " and masks")
    add_classifier_options(parser)
    parser.add_argument(
        "--mask-ratio",
        type=mask_ratio,
        nargs="+",
        default=[],
        metavar="R",
        help="also learn from images with this share of patches dropped (table 15)",
    )
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/lowshot")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    settle_labelled_images(args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.data import labelled_data
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.low_shot_protocol import LowShotProtocol, extract_low_shot, measure
    from msn_mm.evaluation.rows import measured_rows, read_rows, results_of_rows
    from msn_mm.evaluation.tables import low_shot_table, splits_table, unconverged
    from msn_mm.utils.results import output_directory, write_results

    started = time.perf_counter()
    extraction = start_extraction(args)
    rows = read_rows(args)
    protocol = LowShotProtocol(
        images_per_class=args.images_per_class or (),
        fractions=args.fraction,
        subset_files=args.subset_file,
        splits=args.splits,
        seed=args.seed,
        lambd=args.lambd,
        solver=args.solver,
        mask_ratios=args.mask_ratio,
    )
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "lowshot"))
    extraction.check_rows(rows, args.mask_ratio)
    data = labelled_data(rows[0].cfg)
    splits = protocol.label_splits(data)
    if extraction.is_first:
        files = protocol.split_files(data, splits, out)
        print(splits_table(splits, files), flush=True)

    metrics = {}
    for row, features in measured_rows(
        rows,
        lambda row: extract_low_shot(
            extraction.of(row.cfg, row.checkpoint), data.seen_by(row.cfg), splits, protocol
        ),
    ):
        metrics[row.name] = measure(features, data, splits, protocol, progress=row.name)
    if not extraction.is_first:
        return 0
    write_results(
        out / "results.json",
        tool="lowshot",
        settings={
            **protocol.settings(),
            **extraction.settings(),
            **data.settings(),
            "views": {row.name: data.seen_by(row.cfg).query.view_settings() for row in rows},
            "split_files": files,
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print()
    print(low_shot_table(metrics))
    print("".join(f"\n{line}" for line in unconverged(metrics)), end="")
    print(f"\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
