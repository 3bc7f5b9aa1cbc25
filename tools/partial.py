"""Partial fine-tuning (table 13): ``python tools/partial.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.labelled_options import add_labelled_images, settle_labelled_images
from msn_mm.utils.partial_options import add_partial_options, check_partial_options
from msn_mm.utils.protocol_options import (
    add_classifier_options,
    add_extraction_options,
    add_rows,
    check_rows,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="partial.py",
        description="The last block and a linear head trained on a few labelled images, beside "
        "logistic regression on the frozen features of the same images (appendices C.2 and E.3 of "
        "the paper, table 13); several checkpoints give one table.",
    )
    add_rows(parser)
    add_labelled_images(parser, ", crops, order and first weights")
    add_partial_options(parser)
    add_classifier_options(parser)
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/partial")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    settle_labelled_images(args)
    check_partial_options(args)
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
    from msn_mm.evaluation.partial.finished import FinishedTrainings
    from msn_mm.evaluation.partial.protocol import Computing, measure_partial
    from msn_mm.evaluation.partial.recipe import PartialRecipe
    from msn_mm.evaluation.partial.table import better_of, choices_table, grid_line, partial_table
    from msn_mm.evaluation.rows import read_rows, results_of_rows
    from msn_mm.evaluation.tables import splits_table, unconverged
    from msn_mm.models.classifiers.last_block import trunk_with_blocks
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
    )
    recipe = PartialRecipe(
        learning_rates=args.lrs,
        epochs=args.epochs,
        folds=args.folds,
        views=args.views,
        scale=tuple(args.scale),
        flip=args.flip,
        batch=args.global_batch,
        seed=args.seed,
    )
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "partial"))
    if extraction.processes > 1:
        raise UserError("partial.py trains on one process; start it without torchrun")
    for row in rows:
        # A row that cannot be measured is told before the first one is.
        trunk_with_blocks(extraction.encoder(row.cfg, row.checkpoint).trunk)
    data = labelled_data(rows[0].cfg)
    splits = protocol.label_splits(data)
    files = protocol.split_files(data, splits, out)
    print(splits_table(splits, files))
    print(f"\n{grid_line(recipe.settings())}", flush=True)

    metrics: dict[str, dict[str, Any]] = {}
    finished = FinishedTrainings(out / "trainings.json")
    computing = Computing(args.batch_size, args.workers, int(args.memory * 2**30), out, finished)
    for row in rows:
        encoder = extraction.encoder(row.cfg, row.checkpoint)
        seen = data.seen_by(row.cfg)
        features = extract_low_shot(extraction.by(encoder), seen, splits, protocol)
        assert features is not None  # one process
        linear = measure(features, data, splits, protocol, progress=row.name)
        partial = measure_partial(encoder, seen, splits, recipe, computing, progress=row.name)
        metrics[row.name] = {
            column: {
                "partial": partial[column],
                "linear": linear[column],
                "better": better_of(partial[column], linear[column]),
            }
            for column in splits
        }
    write_results(
        out / "results.json",
        tool="partial",
        settings={
            **protocol.settings(),
            **extraction.settings(),
            **data.settings(),
            "partial": recipe.settings(),
            "views": {row.name: data.seen_by(row.cfg).query.view_settings() for row in rows},
            "split_files": files,
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print(f"\n{choices_table(metrics)}\n\n{partial_table(metrics)}")
    linear_rows = {
        name: {column: values["linear"] for column, values in measured.items()}
        for name, measured in metrics.items()
    }
    print("".join(f"\n{line}" for line in unconverged(linear_rows)), end="")
    if finished.found:
        print(
            f"\n{finished.found} trainings had been finished before and were not run again", end=""
        )
    print(f"\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
