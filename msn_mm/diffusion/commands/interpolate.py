"""Draw samples on the straight line between the representations of two images."""

from __future__ import annotations

import argparse
import time
from typing import Any

from msn_mm.diffusion.commands.options import add_sampling_options
from msn_mm.errors import UserError
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import positive

HELP = "draw samples between the representations of two images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("config", help="the config that the RCDM was trained by")
    parser.add_argument(
        "checkpoint", help="the RCDM, or the directory of its training (its newest)"
    )
    parser.add_argument("first", metavar="A", help="an image file")
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument(
        "--points",
        type=positive,
        default=8,
        metavar="K",
        help="representations from that of A to that of B (default: %(default)s)",
    )
    add_sampling_options(parser, 3, "work_dirs/<config name>/interpolation")


def run(args: Any) -> int:
    """Sample, draw, write and tell."""
    check_paths(args.config, args.checkpoint, args.out)
    for path in (args.first, args.second):
        if not user_path(path, "image").is_file():
            raise UserError(f"image {path} is no file; give two images")
    if args.points < 2:
        raise UserError("--points is 1; a line has two ends: give 2 or more")
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    import torch

    from msn_mm.diffusion.comparison import plan_of
    from msn_mm.diffusion.drawing import conditions_of
    from msn_mm.diffusion.loading import image_files, load_rcdm
    from msn_mm.diffusion.pictures import encoded_tiles, save_tile, tile
    from msn_mm.diffusion.sampling import SampleId
    from msn_mm.engine.launch import default_work_dir, load_config
    from msn_mm.evaluation.checkpoint import settled_checkpoint
    from msn_mm.evaluation.extraction import Mask
    from msn_mm.utils.progress import Progress
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.sample_grid import GridRow, plot_grid

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    out = output_directory(args.out or default_work_dir(cfg, "interpolation"))
    checkpoint = settled_checkpoint(args.checkpoint)
    assert checkpoint is not None
    model = load_rcdm(cfg, checkpoint)
    images = image_files(model, [args.first, args.second])
    ends = conditions_of(model, images, [0, 1], Mask())
    shares = torch.linspace(0.0, 1.0, args.points, device=ends.device)[:, None]
    line = torch.lerp(ends[:1], ends[1:], shares)
    # A row keeps its noise from one end to the other, so that the representation alone changes.
    ids = [SampleId(number, 0) for number in range(args.samples) for _ in range(args.points)]
    with Progress(len(ids), "samples", "samples") as shown:
        plan = plan_of(args, shown)
        drawn = plan.draw(model, line.repeat(args.samples, 1), ids)
    tiles = [encoded_tiles(model, images, index, None)[0] for index in (0, 1)]
    rows = [
        GridRow(f"noise {number}", [tiles[0], *(tile(one) for one in row), tiles[1]])
        for number, row in enumerate(drawn.unflatten(0, (args.samples, args.points)))
    ]
    picture = out / "interpolation.png"
    marks = [f"{share:.2f}" for share in shares[:, 0].tolist()]
    plot_grid(["A", *marks, "B"], rows, picture)
    for number, row in enumerate(rows):
        for mark, one in zip(marks, row.tiles[1:-1], strict=True):
            save_tile(one, out / "images" / f"noise_{number}_{mark}.png")
    write_results(
        out / "results.json",
        tool="rcdm interpolate",
        config=args.config,
        checkpoint=checkpoint,
        settings={
            "images": [args.first, args.second],
            "points": args.points,
            **plan.settings(),
            "cfg_options": args.cfg_options,
        },
        metrics={"samples": len(ids), "distance": float((ends[1] - ends[0]).norm())},
        seconds=time.perf_counter() - started,
    )
    print(f"picture: {picture}\nimages:  {out / 'images'}\nresults: {out / 'results.json'}")
    return 0
