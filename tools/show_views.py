"""The views that a training makes of one image: ``python tools/show_views.py CONFIG IMAGE``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out, run_tool
from msn_mm.utils.early_checks import check_paths
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import not_negative, positive, random_seed


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="show_views.py",
        description="Draw what a pre-training shows its network of one image: the target, masked "
        "and focal views, augmented and masked as in its first epochs.",
    )
    parser.add_argument("config", help="a pre-training config")
    parser.add_argument("image", nargs="?", help="an image file")
    parser.add_argument(
        "--index",
        type=not_negative,
        metavar="N",
        help="instead of a file: image N of the training data",
    )
    parser.add_argument(
        "--epochs", type=positive, default=3, metavar="E", help="rows (default: %(default)s)"
    )
    parser.add_argument("--seed", type=random_seed, help="seed of the run (default: the config's)")
    add_out(parser, "work_dirs/<config name>/show_views")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if (args.image is None) == (args.index is None):
        raise UserError("give one image: a file, or --index N for one of the training data")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(args.config, out=args.out)
    if args.image is not None and not user_path(args.image, "IMAGE").is_file():
        raise UserError(f"image {args.image} is no file; give one image, or --index N")
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.engine.launch import default_work_dir, load_config
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.shown_views import ViewSource
    from msn_mm.visualization.view_grid import plot_views

    started = time.perf_counter()
    cfg = load_config(args.config, args.cfg_options)
    seed = (cfg.get("randomness") or {}).get("seed") or 0 if args.seed is None else args.seed
    source = ViewSource(cfg, args.index if args.image is None else Path(args.image))
    epochs = [list(source.at(seed, epoch)) for epoch in range(args.epochs)]
    out = output_directory(args.out or default_work_dir(cfg, "show_views"))
    picture = out / "views.png"
    plot_views(source.pixels, epochs, picture)
    hidden = {view.name: float(view.hidden.mean()) for view in epochs[0] if view.hidden is not None}
    write_results(
        out / "results.json",
        tool="show_views",
        config=args.config,
        checkpoint=None,
        settings={
            "image": args.image if args.index is None else args.index,
            "epochs": args.epochs,
            "seed": seed,
            "cfg_options": args.cfg_options,
        },
        metrics={"views": len(epochs[0]), "hidden": hidden},
        seconds=time.perf_counter() - started,
    )
    print(f"picture: {picture}\nresults: {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    run_tool(main)
