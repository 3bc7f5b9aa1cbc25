"""A page on what a training did: ``python tools/report.py WORK_DIR ...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.utils.cli import ArgumentParser, add_out, run_tool
from msn_mm.utils.early_checks import check_paths, check_training_directory
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import add_batches, add_cache, add_seed, positive

# Beyond this the page would outgrow what a mail takes.
MOST_IMAGES = 5000


def parse_args(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = ArgumentParser(
        prog="report.py",
        description="One HTML page, needing no network, on what a training did: curves, "
        "evaluations, attention maps, prototypes, a map of the features. Several trainings give a "
        "page that compares them.",
    )
    parser.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="a training's directory")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what the page calls them")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="of one training: the checkpoint to look at (default: its newest whole one)",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="PATH",
        help="of one training: further results.json, or directories with some",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="a folder of images to look at (default: the config's held-out ones, else its "
        "training images)",
    )
    parser.add_argument(
        "--max-images",
        type=positive,
        default=1000,
        metavar="N",
        help=f"look at N of them at most, up to {MOST_IMAGES} (default: %(default)s)",
    )
    parser.add_argument(
        "--map",
        choices=("auto", "umap", "pca"),
        default="auto",
        help="how features are laid out (default: UMAP where it is installed, else PCA)",
    )
    add_seed(parser, "the masks and the map")
    add_batches(parser)
    add_cache(parser)
    add_out(parser, "WORK_DIR/report, of several work_dirs/report")
    args = parser.parse_args(argv)
    if not 2 <= args.max_images <= MOST_IMAGES:
        raise UserError(f"--max-images must be from 2 to {MOST_IMAGES}, not {args.max_images}")
    if args.names and len(args.names) != len(args.work_dirs):
        raise UserError(f"--names has {len(args.names)} names for {len(args.work_dirs)} trainings")
    if len(args.work_dirs) > 1 and (args.checkpoint or args.results):
        option = "--checkpoint" if args.checkpoint else "--results"
        raise UserError(f"{option} belongs to one training, and {len(args.work_dirs)} are named")
    for path in args.results:
        if not user_path(path, "--results").exists():
            raise UserError(f"--results: there is no {path}; give a results.json or a directory")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    check_paths(None, args.checkpoint, args.out, ("--images", args.images))
    for path in args.work_dirs:
        check_training_directory(path)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.evaluation.checkpoint import settled_checkpoint
    from msn_mm.evaluation.feature_cache import FeatureCache
    from msn_mm.utils.progress import Progress
    from msn_mm.utils.results import output_directory, write_atomically, write_results
    from msn_mm.visualization.report.build import build_page
    from msn_mm.visualization.report.run import Options, Run
    from msn_mm.visualization.report.work_dir import WorkDir, names_of

    started = time.perf_counter()
    options = Options(
        images=None if args.images is None else Path(args.images),
        max_images=args.max_images,
        seed=args.seed,
        batch_size=args.batch_size,
        workers=args.workers,
        amp=args.amp,
        cache=None if args.cache is None else FeatureCache(args.cache),
        layout=args.map,
    )
    named = settled_checkpoint(args.checkpoint)
    checkpoint = None if named is None else Path(named)
    more = [Path(path) for path in args.results]
    runs = [
        Run(WorkDir(Path(path), name, more, checkpoint), options, number)
        for number, (path, name) in enumerate(
            zip(args.work_dirs, args.names or names_of(args.work_dirs), strict=True)
        )
    ]
    several = Path("work_dirs", "report")
    out = output_directory(
        args.out or (Path(args.work_dirs[0], "report") if len(runs) == 1 else several)
    )
    page = build_page(runs, Progress.say)
    content = page.html.encode()
    path = out / "report.html"
    write_atomically(path, content)
    write_results(
        out / "results.json",
        tool="report",
        config=_each([run.work.config_path and str(run.work.config_path) for run in runs]),
        checkpoint=_each([run.work.checkpoint_or_none for run in runs]),
        settings={
            "work_dirs": args.work_dirs,
            "images": args.images,
            "max_images": args.max_images,
            "map": args.map,
            "seed": args.seed,
        },
        metrics={"bytes": len(content), "shown": page.shown, "missing": page.missing},
        seconds=time.perf_counter() - started,
    )
    for section, reason in page.missing.items():
        print(f"not shown: {section}: {reason}")
    print(f"page:    {path} ({len(content) / 1e6:.1f} MB)\nresults: {out / 'results.json'}")
    return 0


def _each(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


if __name__ == "__main__":
    run_tool(main)
