"""Learn a classifier from a few labelled images, and say what it is worth."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from msn_mm.few_labels.labels import check_labels, read_labels
from msn_mm.utils.early_checks import check_output_file
from msn_mm.utils.encoder_options import (
    add_encoder,
    add_encoder_details,
    check_encoder,
    read_encoder_of,
)
from msn_mm.utils.protocol_options import CROSS_VALIDATION, add_batches, add_seed, lambd_or_cv

HELP = "learn a classifier from a few labelled images, and say what it is worth"
SUFFIX, RESULTS = ".pth", ".json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "labels",
        metavar="LABELS",
        help="a CSV with the columns path,label, or a folder with one folder a class",
    )
    add_encoder(parser)
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
    add_encoder_details(parser)


def run(args: Any) -> int:
    """Fit, estimate, write, and tell."""
    check_labels(args.labels, args.images)
    checkpoint = check_encoder(args)
    inputs = {"LABELS": args.labels, "--checkpoint": checkpoint, "--config": args.config}
    check_output_file(args.out, (SUFFIX,), inputs=inputs, beside=(RESULTS,))
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    import dataclasses

    from msn_mm.few_labels.fitting import fit, settings
    from msn_mm.few_labels.predictor_file import save_content
    from msn_mm.few_labels.report import fit_report
    from msn_mm.utils.results import write_results

    started = time.perf_counter()
    labels = read_labels(args.labels, args.images)
    source = read_encoder_of(args, checkpoint)
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
    out = Path(args.out)
    save_content(dataclasses.replace(fitted.content, about={**about, "metrics": metrics}), out)
    results = out.with_suffix(RESULTS)
    seconds = time.perf_counter() - started
    write_results(results, "msn-mm fit", args.config, source.name, about, metrics, seconds)
    print(fit_report(fitted))
    print(f"\nclassifier: {out}\nresults: {results}\n\nTo label a folder of images:")
    print(f"  {shlex.join(['msn-mm', 'predict', str(out)])} IMAGES_DIR")
    return 0
