"""Pre-train an encoder on a folder of images; settings follow from machine and images."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msn_mm.few_labels.labels import check_labels
from msn_mm.utils.checkpoint_files import check_checkpoint
from msn_mm.utils.early_checks import check_folder, check_output
from msn_mm.utils.protocol_options import above_0, add_seed

if TYPE_CHECKING:
    from msn_mm.auto_pretraining.config_writer import Data
    from msn_mm.auto_pretraining.record import Record

HELP = "pre-train an encoder on a folder of images, no labels needed"
OUT = "work_dirs/pretrain"
_HOURS = 12.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder of images, however deep")
    parser.add_argument(
        "--out",
        default=OUT,
        metavar="DIR",
        help="directory for everything written; the same command goes on with it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--hours",
        type=above_0,
        default=_HOURS,
        metavar="H",
        help="how long it may take: encoder and length follow (default: %(default)g)",
    )
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        help="a few labels, as for msn-mm fit, by which to see when accuracy has settled; they "
        "are not learnt from",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="SRC",
        help="go on from a checkpoint of any known format: a file, a directory or an address",
    )
    parser.add_argument(
        "--mirror",
        choices=("yes", "no"),
        help="whether an image means the same in the mirror (default: photographs yes, grey "
        "images no)",
    )
    parser.add_argument("--lr", type=above_0, metavar="R", help="learning rate (default: chosen)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be chosen, and stop"
    )
    add_seed(parser, "the training")


def run(args: Any) -> int:
    """Choose, tell, train, and name the next command."""
    check_folder("IMAGES_DIR", args.images)
    check_output(args.out)
    if args.start is not None:
        check_checkpoint(args.start, option="--from")
    if args.labels is not None:
        check_labels(args.labels)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.auto_pretraining.config_writer import Data
    from msn_mm.auto_pretraining.labelled import root_of
    from msn_mm.auto_pretraining.record import read_record

    out = Path(args.out)
    record = None if args.dry_run else read_record(out)
    root = None if args.labels is None else root_of(args.labels, args.images)
    data = Data(args.images, 0, args.labels, root, args.seed)
    if record is None:
        record = _begin(args, data, out)
        if record is None:
            return 0
    else:
        _check(args, record, out)
    return _train(args, record, root, out)


def _options(args: Any) -> dict[str, Any]:
    """Return what a training depends on, by the name of its option."""
    return {
        "IMAGES_DIR": str(Path(args.images).expanduser().resolve()),
        "hours": args.hours,
        "labels": args.labels,
        "from": args.start,
        "mirror": args.mirror,
        "lr": args.lr,
        "seed": args.seed,
    }


def _begin(args: Any, data: Data, out: Path) -> Record | None:
    """Look, choose, tell and write; None for a dry run."""
    import dataclasses

    from msn_mm.auto_pretraining.config_writer import write_config
    from msn_mm.auto_pretraining.image_survey import survey
    from msn_mm.auto_pretraining.machine import look_at_machine
    from msn_mm.auto_pretraining.planning import describe, make_plan
    from msn_mm.auto_pretraining.record import CONFIG, Record, digest_of
    from msn_mm.auto_pretraining.settings import Wishes
    from msn_mm.auto_pretraining.starting_point import read_start

    images = survey(args.images, progress=True)
    machine = look_at_machine()
    mirror = None if args.mirror is None else args.mirror == "yes"
    start = None if args.start is None else read_start(args.start)
    data = dataclasses.replace(data, count=images.count)
    plan = make_plan(machine, images, Wishes(args.hours, mirror, args.lr, start), data)
    print(describe(plan, machine, images, args.hours), flush=True)
    if args.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_config(plan.config, plan.chosen, out / CONFIG)
    record = Record(
        options=_options(args),
        images=images.count,
        digest=images.digest,
        config=digest_of(out / CONFIG),
        epochs=plan.chosen.epochs,
        predicted_s=plan.seconds[0],
    )
    record.write(out)
    print(f"config: {out / CONFIG}\n", flush=True)
    return record


def _check(args: Any, record: Record, out: Path) -> None:
    """Refuse to go on with another training than the one that was begun."""
    from msn_mm.auto_pretraining.image_survey import list_folder
    from msn_mm.auto_pretraining.record import CONFIG, check_images, check_same, digest_of

    check_same(record, _options(args), out)
    check_images(record, *list_folder(args.images), out)
    if not record.finished:
        own = digest_of(out / CONFIG) == record.config
        changed = "" if own else f"; {CONFIG} was changed since, and is taken as it is"
        print(f"going on with the training in {out}{changed}", flush=True)


def _train(args: Any, record: Record, root: str | None, out: Path) -> int:
    import dataclasses

    if record.finished:
        print(f"the training in {out} is finished: {_spell(record.finished)}")
    else:
        from msn_mm.auto_pretraining.running import run_config
        from msn_mm.engine.stopped import TrainingStopped

        try:
            done = run_config(out)
        except TrainingStopped as stop:
            print(stop)
            return stop.status
        finished = {"epochs": done.epochs, "seconds": done.seconds, "reason": done.reason}
        record = dataclasses.replace(record, finished=finished)
        record.write(out)
        predicted_s = record.predicted_s * done.epochs / record.epochs
        print(f"{done.report}\n\n{_spell(finished, predicted_s)}")
    print(f"next: {_next_command(args, root, out)}")
    return 0


def _spell(finished: dict[str, Any], predicted_s: float | None = None) -> str:
    from msn_mm.auto_pretraining.speed import spell_time

    text, seconds = f"{finished['epochs']} epochs", finished["seconds"]
    if seconds is not None:
        text += f" in {spell_time(seconds)}"
    if seconds is not None and predicted_s is not None:
        text += f" (predicted: {spell_time(predicted_s)})"
    return text + (f"; settled {finished['reason']}" if finished["reason"] else "")


def _next_command(args: Any, root: str | None, out: Path) -> str:
    labels = args.labels or "LABELS.csv"
    words = ["msn-mm", "fit", labels]
    if not Path(labels).is_dir():
        words += ["--images", root or args.images]
    return shlex.join([*words, "--checkpoint", str(out), "--out", str(out / "classifier.pth")])
