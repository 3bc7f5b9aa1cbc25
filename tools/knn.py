"""Weighted k-NN on frozen features: ``python tools/knn.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.protocol_options import add_extraction_options, add_rows, check_rows, positive

DEFAULT_KS = (10, 20, 100, 200)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="knn.py",
        description="Weighted k-nearest-neighbour accuracy of frozen features on all labelled "
        "images; several checkpoints give one table.",
    )
    add_rows(parser)
    parser.add_argument(
        "--k",
        type=positive,
        nargs="+",
        metavar="K",
        help="numbers of neighbours (default: those of 10 20 100 200 that there are images for)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.07,
        help="a neighbour of cosine similarity s votes with exp(s / T) (default: %(default)s)",
    )
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/knn")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if not args.temperature > 0:
        raise UserError(f"--temperature {args.temperature:g} must be above 0; the usual is 0.07")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.data import labelled_data
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.knn import weighted_knn
    from msn_mm.evaluation.rows import measured_rows, read_rows, results_of_rows
    from msn_mm.evaluation.tables import knn_tables
    from msn_mm.utils.progress import Progress
    from msn_mm.utils.results import output_directory, write_results

    started = time.perf_counter()
    extraction = start_extraction(args)
    rows = read_rows(args)
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "knn"))
    extraction.check_rows(rows)
    data = labelled_data(rows[0].cfg)
    n = len(data.support)
    ks = args.k or [k for k in DEFAULT_KS if k <= n] or [n]
    if max(ks) > n:
        raise UserError(f"--k {max(ks)}, but there are {n} labelled images; give at most {n}")

    metrics = {}
    for row, (support, query) in measured_rows(
        rows, lambda row: extraction.support_and_query(row.cfg, row.checkpoint, data)
    ):
        with Progress(len(query), row.name) as shown:
            measured = weighted_knn(
                support,
                data.support_labels,
                query,
                data.query_labels,
                ks=ks,
                temperature=args.temperature,
                device=extraction.device or "cpu",
                progress=shown.step,
            )
        metrics[row.name] = {str(k): values for k, values in measured.items()}
    if not extraction.is_first:
        return 0
    write_results(
        out / "results.json",
        tool="knn",
        settings={
            "k": list(ks),
            "temperature": args.temperature,
            **extraction.settings(),
            **data.settings(),
            "views": {row.name: data.seen_by(row.cfg).query.view_settings() for row in rows},
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print("\n\n".join(table.text() for table in knn_tables(metrics)))
    print(f"\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
