"""Choose the images of a folder that are worth labelling first."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from msn_mm.few_labels.labels import check_labels, read_labelled
from msn_mm.utils.early_checks import check_folder, check_no_input, check_output
from msn_mm.utils.encoder_options import (
    add_encoder,
    add_encoder_details,
    check_encoder,
    read_encoder_of,
)
from msn_mm.utils.protocol_options import add_batches, add_cache, add_seed, positive

HELP = "choose the images of a folder that are worth labelling first"
# The methods' own module is heavy to ask; a test compares.
METHODS = ("typical", "kmeans++")
FILE, PAGE, RESULTS = "suggestions.csv", "suggestions.html", "results.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder of images, however deep")
    add_encoder(parser)
    parser.add_argument(
        "--number",
        type=positive,
        default=50,
        metavar="N",
        help="how many images (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="typical: one that stands for each of the largest groups; kmeans++: far from each "
        "other (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        help="what is labelled already: a CSV with the columns path,label, whose paths begin in "
        "IMAGES_DIR, or a folder with one folder a class",
    )
    parser.add_argument(
        "--out",
        default="suggestions",
        metavar="DIR",
        help=f"directory for {FILE} and {PAGE} (default: %(default)s)",
    )
    add_seed(parser, "the method")
    group = parser.add_argument_group("computing")
    add_batches(group)
    add_cache(group)
    add_encoder_details(parser)


def run(args: Any) -> int:
    """Choose, write, and tell."""
    check_folder("IMAGES_DIR", args.images)
    if args.labels is not None:
        check_labels(args.labels)
    checkpoint = check_encoder(args)
    check_output(args.out)
    inputs = {"--checkpoint": checkpoint, "--config": args.config}
    # labels in FILE are a case of their own: what they say is kept
    check_no_input([Path(args.out, name) for name in (FILE, PAGE, RESULTS)], inputs)
    check_no_input([Path(args.out, name) for name in (PAGE, RESULTS)], {"--labels": args.labels})
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.evaluation.feature_cache import FeatureCache
    from msn_mm.few_labels.report import suggestion_report
    from msn_mm.few_labels.suggesting import suggest
    from msn_mm.few_labels.suggestion_files import (
        check_no_labels_lost,
        columns,
        read_kept,
        table,
        write_csv,
    )
    from msn_mm.utils.results import output_directory, write_results
    from msn_mm.visualization.label_page import write_label_page

    started = time.perf_counter()
    out = output_directory(args.out)
    check_no_labels_lost(out / FILE, args.labels)
    notes: list[str] = []
    labelled = (
        [] if args.labels is None else read_labelled(args.labels, args.images, notes, "IMAGES_DIR")
    )
    kept = read_kept(args.labels, out / FILE)
    source = read_encoder_of(args, checkpoint)
    for note in [*notes, *source.notes]:
        print(f"note: {note}")
    found = suggest(
        args.images,
        source,
        args.number,
        args.method,
        labelled,
        seed=args.seed,
        batch_size=args.batch_size,
        workers=args.workers,
        amp=args.amp,
        cache=None if args.cache is None else FeatureCache(args.cache),
        progress=True,
    )
    names, rows, count = columns(kept), table(found, kept), len(found.names)
    write_csv(out / FILE, names, rows)
    write_label_page(out / PAGE, found.folder, source.view, names, rows, count, file=FILE)
    settings = {
        "images": args.images,
        "labels": args.labels,
        "method": args.method,
        "number": args.number,
        "seed": args.seed,
        "encoder": source.converted.architecture.describe(),
        "view": source.view.settings(),
        "precision": "bfloat16 autocast" if args.amp else "float32",
    }
    seconds = time.perf_counter() - started
    write_results(
        out / RESULTS,
        "msn-mm label-suggest",
        args.config,
        source.name,
        settings,
        found.metrics(),
        seconds,
    )
    print(suggestion_report(found))
    print(f"\npage: {out / PAGE}\ntable: {out / FILE}\n\nWith labels in it:")
    words = ["msn-mm", "fit", str(out / FILE), "--images", args.images]
    words += [] if args.config is None else ["--config", args.config]
    print(f"  {shlex.join([*words, '--checkpoint', args.checkpoint])}")
    return 0
