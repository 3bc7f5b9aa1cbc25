"""Features of images by a frozen encoder: ``python tools/extract.py CONFIG CHECKPOINT``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.protocol_options import (
    NO_CHECKPOINT,
    add_extraction_options,
    add_seed,
    checkpoint_of,
    mask_ratio_or_0,
)


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="extract.py",
        description="Write the features of images by a checkpoint's frozen encoder to a file.",
    )
    parser.add_argument("config", help="the config that the checkpoint was trained with")
    parser.add_argument(
        "checkpoint",
        help="its weights, or the directory of a training (its newest checkpoint); "
        f"{NO_CHECKPOINT}: those that the config builds",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", metavar="DIR", help="a folder of images, however deep")
    source.add_argument(
        "--part",
        choices=("support", "query", "all"),
        default="all",
        help="which of the config's labelled images (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        choices=("none", "folder"),
        default="none",
        help="with --images: take the folders in DIR for classes (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("npz", "parquet"),
        default=["npz"],
        help="files to write (default: npz)",
    )
    parser.add_argument(
        "--mask-ratio",
        type=mask_ratio_or_0,
        default=0.0,
        metavar="R",
        help="drop this share of random patches of each image (default: %(default)s)",
    )
    add_seed(parser, "the masks")
    add_extraction_options(parser)
    add_out(parser, "work_dirs/<config name>/extract")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.labels != "none" and args.images is None:
        raise UserError("--labels says how to read a folder: give --images DIR too")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    checkpoint = checkpoint_of(args.checkpoint)
    check_paths(args.config, checkpoint, args.out, ("--images", args.images))
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.evaluation.feature_files import ImageFeatures, check_formats

    check_formats(args.format)
    from msn_mm.engine.launch import default_work_dir, load_config
    from msn_mm.evaluation.checkpoint import settled_checkpoint
    from msn_mm.evaluation.data import part_images
    from msn_mm.evaluation.extraction import Mask
    from msn_mm.evaluation.extraction_run import start_extraction
    from msn_mm.evaluation.features import check_finite
    from msn_mm.evaluation.folder_images import folder_images
    from msn_mm.utils.results import format_table, output_directory, write_results

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    run = start_extraction(args)
    checkpoint = settled_checkpoint(checkpoint)
    if args.images is not None:
        parts = {"images": folder_images(cfg, args.images, args.labels)}
    else:
        parts = part_images(cfg, args.part)
    encode = run.of(cfg, checkpoint, [args.mask_ratio])
    out = output_directory(args.out or default_work_dir(cfg, "extract"))
    mask = Mask(args.mask_ratio, seed=args.seed)
    rows = {}
    for name, part in parts.items():
        encoded = encode(part, mask=mask, progress=name)
        if encoded is not None:
            check_finite(encoded)
            rows[name] = encoded
    if not run.is_first:
        return 0

    found = ImageFeatures.of_parts(parts, rows)
    written = [found.write(out, kind) for kind in args.format]
    seconds = time.perf_counter() - started
    cache = run.cache
    metrics = {
        **found.summary(),
        "from_cache": 0 if cache is None else cache.hits,
        "files": [path.name for path in written],
    }
    settings = {
        **run.settings(),
        "mask_ratio": mask.ratio,
        "seed": mask.seed,
        "source": args.images or args.part,
        "view": next(iter(parts.values())).view_settings(),
        "cfg_options": args.cfg_options,
    }
    write_results(
        out / "results.json", "extract", args.config, checkpoint, settings, metrics, seconds
    )
    columns = ["images", "labelled", "classes", "numbers", "from_cache"]
    print(
        format_table(
            ["checkpoint", *(name.replace("_", " ") for name in columns), "seconds"],
            [
                [
                    Path(checkpoint or NO_CHECKPOINT).name,
                    *(f"{metrics[c]:,}" for c in columns),
                    f"{seconds:.1f}",
                ]
            ],
        )
    )
    print()
    for path in [*written, out / "results.json"]:
        print(f"{path.suffix[1:]}: {path}")
    return 0


if __name__ == "__main__":
    run_tool(main)
