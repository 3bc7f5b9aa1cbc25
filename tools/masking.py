"""Invariance to masking: ``python tools/masking.py CONFIG CHECKPOINT ...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import (
    add_extraction_options,
    add_rows,
    add_seed,
    check_rows,
    mask_ratio,
    positive,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="masking.py",
        description="Mean cosine similarity between the features of masked and whole images, as "
        "in appendix G of the paper (table 16); several checkpoints give one table and picture.",
    )
    add_rows(parser)
    parser.add_argument(
        "--mask-ratio",
        type=mask_ratio,
        nargs="+",
        default=[0.15, 0.3, 0.5, 0.7, 0.9],
        metavar="R",
        help="shares of patches to drop (default: %(default)s)",
    )
    parser.add_argument(
        "--masks", type=positive, default=4, help="random masks an image (default: %(default)s)"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="a folder of images (default: the config's held-out ones)"
    )
    parser.add_argument("--max-images", type=positive, metavar="N", help="the first N images only")
    add_seed(parser, "the masks")
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/masking")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.max_images is not None and args.max_images < 2:
        raise UserError("--max-images must be at least 2: different images are compared")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_rows(args)
    check_paths(folder=("--images", args.images))
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    import numpy as np

    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.data import part_images, seen_by
    from msn_mm.evaluation.extraction import Mask
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.folder_images import folder_images
    from msn_mm.evaluation.masking import masking_invariance
    from msn_mm.evaluation.rows import Row, measured_rows, read_rows, results_of_rows
    from msn_mm.evaluation.tables import masking_table
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.masking_curve import plot_masking_curves

    started = time.perf_counter()
    extraction = start_extraction(args)
    rows = read_rows(args)
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "masking"))
    extraction.check_rows(rows, args.mask_ratio)
    first = rows[0].cfg
    if args.images is None:
        images = part_images(first, "query")["query"]
    else:
        images = folder_images(first, args.images)
    indices = np.arange(len(images))[: args.max_images]
    if len(indices) < 2:
        raise UserError(
            f"there is {len(indices)} image; a spread over images, and the similarity of "
            "different ones, need at least 2"
        )

    def extract(row: Row) -> tuple[Any, dict[float, list[Any]]]:
        encode, seen = extraction.of(row.cfg, row.checkpoint), seen_by(images, row.cfg)
        whole = encode(seen, indices, progress="whole images")
        masked = {
            ratio: [
                encode(
                    seen,
                    indices,
                    mask=Mask(ratio, args.seed, number),
                    progress=f"{ratio:.0%} masked, {number + 1} of {args.masks}",
                )
                for number in range(args.masks)
            ]
            for ratio in args.mask_ratio
        }
        return whole, masked

    metrics = {
        row.name: masking_invariance(whole, masked)
        for row, (whole, masked) in measured_rows(rows, extract)
    }
    if not extraction.is_first:
        return 0
    picture = out / "masking.png"
    plot_masking_curves(metrics, picture)
    write_results(
        out / "results.json",
        tool="masking",
        settings={
            "images": len(indices),
            "source": args.images or "query",
            "views": {row.name: seen_by(images, row.cfg).view_settings() for row in rows},
            "masks": args.masks,
            "seed": args.seed,
            **extraction.settings(),
            "cfg_options": args.cfg_options,
        },
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, metrics),
    )
    print(masking_table(metrics).text())
    print(f"\npicture: {picture}\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
