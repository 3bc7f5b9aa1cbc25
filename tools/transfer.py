"""Linear transfer to other data: ``python tools/transfer.py CONFIG CHECKPOINT --data cifar10``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.config_files import find_data
from msn_mm.utils.protocol_options import (
    add_classifier_options,
    add_extraction_options,
    add_rows,
    add_splits,
    check_rows,
    positive,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="transfer.py",
        description="L2-regularised logistic regression on frozen features of another data set, "
        "as in appendix C.5 of the paper; several checkpoints give one table.",
    )
    add_rows(parser)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="NAME|FOLDER",
        help="cifar10, cifar100, inat18, inat19 (configs/eval/), a config of your own, or a "
        "folder with train/ and test/ (or val/), one folder a class",
    )
    data.add_argument("--data-root", metavar="DIR", help="where a named data set lies")
    data.add_argument(
        "--resize", type=positive, metavar="N", help="side of the square (default: 256)"
    )
    data.add_argument("--crop", type=positive, metavar="N", help="side of the cut (default: 224)")
    data.add_argument(
        "--labels",
        nargs="+",
        default=["all"],
        metavar="N|all",
        help="numbers of labelled images, alike in every class, e.g. 4000 all (default: all)",
    )
    add_splits(data, "")
    add_classifier_options(parser)
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/transfer")
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    for data in args.data:
        find_data(data)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.data import LabelledData
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.low_shot_protocol import (
        LowShotFeatures,
        LowShotProtocol,
        extract_low_shot,
        measure,
    )
    from msn_mm.evaluation.named_data import transfer_data
    from msn_mm.evaluation.rows import Row, measured_rows, read_rows, results_of_rows
    from msn_mm.evaluation.split_files import listed_splits, save_splits
    from msn_mm.evaluation.tables import splits_table, transfer_table, unconverged
    from msn_mm.evaluation.transfer import label_splits
    from msn_mm.utils.results import output_directory, write_results

    started = time.perf_counter()
    extraction = start_extraction(args)
    rows = read_rows(args)
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "transfer"))
    extraction.check_rows(rows)

    def data_for(row: Row) -> dict[str, LabelledData]:
        found = [
            transfer_data(word, row.cfg, args.data_root, resize=args.resize, crop=args.crop)
            for word in args.data
        ]
        names = [data.name for data in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(
                f"--data names two data sets called '{twice}'; measure them in two calls, or "
                "rename a folder"
            )
        return dict(zip(names, found, strict=True))

    first = data_for(rows[0])
    splits = {
        name: label_splits(data, args.labels, args.splits, args.seed)
        for name, data in first.items()
    }
    files, earlier = {}, listed_splits(out)
    if extraction.is_first:
        for name, data in first.items():
            place, names = out / "splits" / name, data.support.names
            files[name] = save_splits(place, splits[name], names, earlier)
            print(f"{name}\n{splits_table(splits[name], files[name])}\n", flush=True)
    protocol = LowShotProtocol(lambd=args.lambd, solver=args.solver, seed=args.seed)

    def extract(row: Row) -> dict[str, LowShotFeatures | None]:
        encode = extraction.of(row.cfg, row.checkpoint)
        return {
            name: extract_low_shot(encode, data, splits[name], protocol)
            for name, data in data_for(row).items()
        }

    metrics = {}
    for row, features in measured_rows(rows, extract):
        metrics[row.name] = {
            name: measure(part, first[name], splits[name], protocol, progress=f"{row.name}, {name}")
            for name, part in features.items()
            if part is not None
        }
    if not extraction.is_first:
        return 0
    write_results(
        out / "results.json",
        tool="transfer",
        settings={
            "data": args.data,
            "labels": args.labels,
            "splits": args.splits,
            "seed": args.seed,
            "lambd": args.lambd,
            "solver": args.solver,
            "datasets": {name: data.settings() for name, data in first.items()},
            "views": {
                row.name: {name: data.query.view_settings() for name, data in data_for(row).items()}
                for row in rows
            },
            **extraction.settings(),
            "split_files": files,
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print(transfer_table(metrics).text())
    for name in first:
        each = {f"{row}, {name}": measured[name] for row, measured in metrics.items()}
        print("".join(f"\n{line}" for line in unconverged(each)), end="")
    print(f"\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
