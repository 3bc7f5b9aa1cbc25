"""Learn a classifier from a few labelled images, and say what it is worth."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from msn_mm.errors import UserError
from msn_mm.few_labels.labels import check_labels, read_labels
from msn_mm.utils.checkpoint_files import check_encoder_place
from msn_mm.utils.checkpoint_options import AUTO, add_reading_options
from msn_mm.utils.cli import add_cfg_options
from msn_mm.utils.early_checks import check_config, check_output_file
from msn_mm.utils.protocol_options import (
    CROSS_VALIDATION,
    NO_CHECKPOINT,
    add_batches,
    add_seed,
    checkpoint_of,
    lambd_or_cv,
)

HELP = "learn a classifier from a few labelled images, and say what it is worth"
SUFFIX = ".pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "labels",
        metavar="LABELS",
        help="a CSV with the columns path,label, or a folder with one folder a class",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PLACE",
        help="the encoder's weights: a file or address of any known format, or the directory of a "
        f"training (its newest checkpoint); {NO_CHECKPOINT}: those that --config builds",
    )
    parser.add_argument(
        "--config", help="the encoder's config, where a checkpoint does not say how it is built"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="where paths of the CSV begin (default: where the CSV is)"
    )
    parser.add_argument(
        "--out",
        default=f"classifier{SUFFIX}",
        metavar="FILE",
        help="the classifier; results go beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--lambd",
        type=lambd_or_cv,
        default=CROSS_VALIDATION,
        metavar="L|cv",
        help="L2 regularisation; cv: chosen by cross-validation (default: %(default)s)",
    )
    add_seed(parser, "the parts that are held out")
    add_batches(parser.add_argument_group("computing"))
    add_reading_options(parser)
    add_cfg_options(parser)


def run(args: Any) -> int:
    """Fit, estimate, write, and tell."""
    checkpoint = checkpoint_of(args.checkpoint)
    _check(args, checkpoint)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    import dataclasses

    from msn_mm.engine.launch import load_config
    from msn_mm.few_labels.encoder import read_encoder
    from msn_mm.few_labels.fitting import fit, settings
    from msn_mm.few_labels.predictor_file import save_content
    from msn_mm.few_labels.report import fit_report
    from msn_mm.utils.results import write_results

    started = time.perf_counter()
    labels = read_labels(args.labels, args.images)
    config = None if args.config is None else load_config(args.config, args.cfg_options)
    source = read_encoder(checkpoint, config, args.format, dict(args.arch))
    for note in [*labels.notes, *source.notes]:
        print(f"note: {note}")
    view = source.view.settings()
    print(
        f"{len(labels.names)} labelled images of {len(labels.classes)} classes; "
        f"{source.converted.architecture.describe()} from {source.name}; images to "
        f"{view['resize']} pixels, cut to {view['crop']}\n",
        flush=True,
    )
    fitted = fit(
        labels,
        source,
        args.lambd,
        seed=args.seed,
        batch_size=args.batch_size,
        workers=args.workers,
        amp=args.amp,
        progress=True,
    )
    about = settings(fitted, args.labels, source, args.lambd, args.seed, args.amp)
    metrics = fitted.metrics()
    out = Path(args.out).expanduser()
    save_content(dataclasses.replace(fitted.content, about={**about, "metrics": metrics}), out)
    results = out.with_suffix(".json")
    seconds = time.perf_counter() - started
    write_results(results, "msn-mm fit", args.config, source.name, about, metrics, seconds)
    print(fit_report(fitted))
    print(f"\nclassifier: {out}\nresults: {results}")
    return 0


def _check(args: Any, checkpoint: str | None) -> None:
    check_labels(args.labels, args.images)
    if args.config is not None:
        check_config(args.config)
        if args.format != AUTO or args.arch:
            raise UserError("--from and --arch read a checkpoint without a config; leave --config")
    elif args.cfg_options:
        raise UserError("--cfg-options change a config; give --config too")
    if checkpoint is None and args.config is None:
        raise UserError(f"--checkpoint {NO_CHECKPOINT} takes the config's weights: give --config")
    if checkpoint is not None:
        check_encoder_place(checkpoint, "--checkpoint")
    check_output_file(args.out, (SUFFIX,))
