"""One measurement of several RCDMs, from their samples to the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from msn_mm.diffusion.comparison import chosen_indices, plan_of
from msn_mm.diffusion.drawing import draw
from msn_mm.diffusion.loading import labelled_images
from msn_mm.diffusion.measuring import (
    Measured,
    judge_of,
    measure,
    measure_untrained,
    recognition_table,
    variety_table,
)
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.utils.progress import Progress
from msn_mm.visualization.recognition_curve import plot_recognition


@dataclass(frozen=True)
class Recognition:
    """What was measured.

    Attributes:
        metrics: By the name of the RCDM.
        settings: What they depend on.
        report: The tables.
    """

    metrics: dict[str, Measured]
    settings: dict[str, Any]
    report: str


def recognise(models: Mapping[str, RCDM], cfg: Config, args: Any, out: Path) -> Recognition:
    """Measure RCDMs on a config's labelled data and draw the curve.

    The first one is also measured while its conditioning is untrained, which tells what
    the classifier sees by chance.

    Args:
        models: By name; of one sample size.
        cfg: Names the labelled data.
        args: ``mask_ratio``, ``max_images`` and those of
            :func:`~msn_mm.diffusion.commands.options.add_sampling_options`.
        out: Directory for the curve.
    """
    first_name, first = next(iter(models.items()))
    data = labelled_images(first, cfg)
    indices = chosen_indices(len(data.query), args.max_images, args.seed)
    ratios = sorted({0.0, *args.mask_ratio})
    judge = judge_of(first, data, indices)
    total = (len(models) * len(ratios) + 1) * len(indices) * args.samples
    with Progress(total, "samples", "samples") as shown:
        plan = plan_of(args, shown)
        metrics = {
            name: measure(judge, draw(model, data.query, indices, ratios, plan))
            for name, model in models.items()
        }
        untrained = measure_untrained(first, judge, data.query, indices, plan)
    metrics[first_name]["recognised_untrained_conditioning"] = untrained
    curve = out / "recognition.png"
    chance = 100.0 / len(data.classes)
    plot_recognition(
        {
            name: {float(ratio): share for ratio, share in row["recognised"].items()}
            for name, row in metrics.items()
        },
        chance,
        judge.accuracy,
        curve,
    )
    report = [
        recognition_table(metrics, {first_name: untrained}),
        f"{args.samples} samples of each of {len(indices)} images; the classifier has seen "
        f"{len(judge.training):,} real images and recognises {judge.accuracy:.1f} % of "
        f"{len(data.query)} others; chance {chance:.0f} %",
        "",
        variety_table(metrics),
        "root mean square difference of pixels from 0 to 1; copies of training images would be "
        "at 0",
        "",
        f"curve:   {curve}",
    ]
    settings = {
        "images": len(indices),
        "classifier_accuracy": judge.accuracy,
        "chance": chance,
        **plan.settings(),
    }
    return Recognition(metrics, settings, "\n".join(report))
