"""Draw samples of images, whole and masked: a row an image, mask ratio and encoder."""

from __future__ import annotations

import argparse
import time
from typing import Any

from msn_mm.diffusion.commands.options import (
    add_masks,
    add_max_images,
    add_sampling_options,
    check_one_backbone,
)
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.early_checks import check_config, check_paths
from msn_mm.utils.protocol_options import add_rows, check_rows

HELP = "draw samples of whole and masked images, as figures 4 to 8 of the MSN paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_rows(parser)
    parser.add_argument(
        "--images", metavar="DIR", help="a folder of images (default: the config's held-out ones)"
    )
    add_max_images(parser, 8)
    add_masks(parser)
    parser.add_argument(
        "--backbone",
        metavar="CHECKPOINT",
        help="condition on this encoder (default: the one in the RCDM's checkpoint)",
    )
    parser.add_argument(
        "--backbone-config", metavar="CONFIG", help="its config (default: the RCDM's encoder's)"
    )
    add_sampling_options(parser, 8, "work_dirs/<config name>/samples")


def run(args: Any) -> int:
    """Sample, draw, write and tell."""
    check_rows(args)
    check_paths(folder=("--images", args.images))
    check_one_backbone(args)
    if args.backbone is not None:
        check_checkpoint(args.backbone)
    if args.backbone_config is not None:
        check_config(args.backbone_config)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.diffusion.comparison import chosen_indices, load_rows, plan_of
    from msn_mm.diffusion.drawing import draw
    from msn_mm.diffusion.loading import shown_images
    from msn_mm.diffusion.pictures import headings, sample_rows, save_separately
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.rows import read_rows, results_of_rows
    from msn_mm.utils.progress import Progress
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.sample_grid import plot_grid

    started = time.perf_counter()
    rows = read_rows(args)
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "samples"))
    models = load_rows(rows, args)
    first = models[rows[0].name]
    images = shown_images(first, rows[0].cfg, args.images)
    indices = chosen_indices(len(images), args.max_images, args.seed)
    total = len(models) * len(indices) * len(args.mask_ratio) * args.samples
    with Progress(total, "samples", "samples") as shown:
        plan = plan_of(args, shown)
        drawings = {
            name: draw(model, images, indices, args.mask_ratio, plan)
            for name, model in models.items()
        }
    grid = sample_rows(models, images, indices, drawings)
    picture = out / "samples.png"
    plot_grid(headings(args.samples), grid, picture)
    files = save_separately(out / "images", images, indices, grid)
    seconds = time.perf_counter() - started
    found = {"samples": len(indices) * len(args.mask_ratio) * args.samples}
    write_results(
        out / "results.json",
        tool="rcdm sample",
        settings={
            "images": [images.names[i] for i in indices],
            "source": args.images or "query",
            "mask_ratios": args.mask_ratio,
            **plan.settings(),
            "cfg_options": args.cfg_options,
        },
        seconds=seconds,
        **results_of_rows(rows, {row.name: found for row in rows}),
    )
    print(f"{total:,} samples of {len(indices)} images in {seconds:.0f} s")
    print(f"picture: {picture}\nimages:  {out / 'images'} ({files} files)")
    print(f"results: {out / 'results.json'}")
    return 0
