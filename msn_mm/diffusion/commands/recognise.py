"""Measure samples: do they show their image's class, do they differ, are they copies?"""

from __future__ import annotations

import argparse
import time
from typing import Any

from msn_mm.diffusion.commands.options import add_masks, add_max_images, add_sampling_options
from msn_mm.utils.protocol_options import add_rows, check_rows

HELP = "measure how many samples a classifier of real images recognises, over mask ratios"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_rows(parser)
    add_max_images(parser, 100)
    add_masks(parser)
    add_sampling_options(parser, 2, "work_dirs/<config name>/recognition")


def run(args: Any) -> int:
    """Sample, measure, write and tell."""
    check_rows(args)
    # Heavy imports come after all that can be told without them: a typo is answered at once.
    from msn_mm.diffusion.comparison import load_rows
    from msn_mm.diffusion.recognition_run import recognise
    from msn_mm.engine.launch import default_work_dir
    from msn_mm.evaluation.rows import read_rows, results_of_rows
    from msn_mm.utils.results import output_directory, write_results

    started = time.perf_counter()
    rows = read_rows(args)
    out = output_directory(args.out or default_work_dir(rows[0].cfg, "recognition"))
    models = load_rows(rows, args)
    found = recognise(models, rows[0].cfg, args, out)
    write_results(
        out / "results.json",
        tool="rcdm recognise",
        settings={**found.settings, "cfg_options": args.cfg_options},
        seconds=time.perf_counter() - started,
        **results_of_rows(rows, found.metrics),
    )
    print(f"{found.report}\nresults: {out / 'results.json'}")
    return 0
