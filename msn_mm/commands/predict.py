"""Label every image of a folder by a classifier that msn-mm fit has written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msn_mm.utils.checkpoint_files import check_checkpoint_file
from msn_mm.utils.early_checks import check_folder, check_output_file
from msn_mm.utils.paths import user_path
from msn_mm.utils.protocol_options import add_batches, fraction_below_1

HELP = "label every image of a folder by a classifier"
SUFFIXES = (".csv", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("classifier", metavar="FILE", help="what msn-mm fit has written")
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder of images, however deep")
    parser.add_argument(
        "--out",
        default="predictions.csv",
        metavar="FILE",
        help="the table, .csv or .parquet (default: %(default)s)",
    )
    parser.add_argument(
        "--unknown-rate",
        type=fraction_below_1,
        default=0.05,
        metavar="R",
        help="share of images like the labelled ones that may be flagged as unknown "
        "(default: %(default)s)",
    )
    add_batches(parser.add_argument_group("computing"))


def run(args: Any) -> int:
    """Predict, write, and tell."""
    check_checkpoint_file(user_path(args.classifier, "FILE"))
    check_folder("IMAGES_DIR", args.images)
    check_output_file(args.out, SUFFIXES, inputs={"FILE": args.classifier})
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.evaluation.feature_files import check_formats

    out = Path(args.out)
    check_formats([out.suffix[1:]])
    from msn_mm.few_labels.predicting import predict
    from msn_mm.few_labels.predictor import load_predictor
    from msn_mm.few_labels.report import prediction_report

    found = predict(
        load_predictor(args.classifier, amp=args.amp),
        args.images,
        unknown_rate=args.unknown_rate,
        batch_size=args.batch_size,
        workers=args.workers,
        progress="images",
    )
    found.write(out)
    print(prediction_report(found, args.unknown_rate))
    print(f"\npredictions: {out}")
    return 0
