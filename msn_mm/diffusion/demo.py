"""The steps of ``tools/rcdm.py demo``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msn_mm.diffusion.comparison import plan_of
from msn_mm.diffusion.drawing import draw
from msn_mm.diffusion.loading import labelled_images, load_rcdm
from msn_mm.diffusion.pictures import headings, sample_rows, save_separately
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.diffusion.recognition_run import recognise
from msn_mm.diffusion.training import train_rcdm
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.evaluation.checkpoint import settled_checkpoint
from msn_mm.evaluation.data import LabelledData
from msn_mm.utils.checkpoint_files import training_checkpoints
from msn_mm.utils.protocol_options import checkpoint_of
from msn_mm.utils.results import output_directory, write_results
from msn_mm.visualization.sample_grid import plot_grid

_SHOWN_SAMPLES = 8


@dataclass
class Demo:
    """One run of the demo.

    Attributes:
        config: Of the RCDM.
        out: Where everything is written.
        cfg_options: Changes of ``config``.
        settings: How samples are drawn and measured.
    """

    config: str
    out: Path
    cfg_options: Mapping[str, Any]
    settings: argparse.Namespace

    def encoder(self, config: str, place: Path) -> str:
        """Return the newest checkpoint of an encoder's training, which is finished first.

        Args:
            config: The encoder's.
            place: A checkpoint, or the directory of a training.
        """
        if place.is_file():
            return str(place)
        wanted = load_config(config)
        last = place / f"epoch_{wanted.train_cfg.max_epochs}.pth"
        if last.is_file():
            print(f"encoder: {last}", flush=True)
            return str(last)
        begun = bool(place.is_dir() and training_checkpoints(place))
        print(
            f"{place} holds no finished training of {config}: training it now, "
            f"{wanted.train_cfg.max_epochs} epochs",
            flush=True,
        )
        train(build_runner(wanted, work_dir=place, resume=begun))
        return str(last)

    def compared(self, words: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Return name, config and weights of the other encoder.

        Args:
            words: CONFIG and CHECKPOINT, or CONFIG alone to train it first.
        """
        config, stem = words[0], Path(words[0]).stem
        name = stem.split("_")[0].upper()
        if len(words) == 1:
            return {name: (config, self.encoder(config, self.out / stem))}
        checkpoint = settled_checkpoint(checkpoint_of(words[1]))
        return {name if checkpoint else f"{name}, untrained": (config, checkpoint)}

    def run(self, encoders: Mapping[str, tuple[str, str | None]], started: float) -> str:
        """Train an RCDM on each encoder, measure and draw.

        Args:
            encoders: By name their config and weights.
            started: When the demo began.

        Returns:
            The report.
        """
        output_directory(self.out)
        models, checkpoints = {}, {}
        for name, (config, checkpoint) in encoders.items():
            checkpoints[name] = self._rcdm(name, config, checkpoint)
            models[name] = load_rcdm(load_config(self.config, self.cfg_options), checkpoints[name])
        cfg = load_config(self.config, self.cfg_options)
        print("\nNow sampling and measuring.", flush=True)
        found = recognise(models, cfg, self.settings, self.out)
        picture = self._draw(models, labelled_images(next(iter(models.values())), cfg))
        write_results(
            self.out / "results.json",
            tool="rcdm demo",
            config=[self.config] * len(models),
            checkpoint=list(checkpoints.values()),
            settings={
                **found.settings,
                "encoders": {name: list(one) for name, one in encoders.items()},
                "cfg_options": dict(self.cfg_options),
            },
            metrics=found.metrics,
            seconds=time.perf_counter() - started,
        )
        lines = [
            "",
            found.report,
            f"grid:    {picture}",
            f"results: {self.out / 'results.json'}",
            f"{time.perf_counter() - started:.0f} s in all",
        ]
        return "\n".join(lines)

    def _rcdm(self, name: str, config: str, checkpoint: str | None) -> str:
        place = self.out / ("rcdm_" + "".join(c if c.isalnum() else "_" for c in name).lower())
        print(f"\nTraining an RCDM on {name} ({checkpoint or 'random weights'}).", flush=True)
        runner = train_rcdm(
            self.config, checkpoint, config, self.cfg_options, work_dir=place, resume=False
        )
        return str(place / f"epoch_{runner.epoch}.pth")

    def _draw(self, models: Mapping[str, RCDM], data: LabelledData) -> Path:
        """Draw an image of every second class under every mask."""
        labels = data.query_labels.tolist()
        indices = [labels.index(label) for label in sorted(set(labels))[::2]]
        shown = argparse.Namespace(**{**vars(self.settings), "samples": _SHOWN_SAMPLES})
        drawings = {
            name: draw(model, data.query, indices, shown.mask_ratio, plan_of(shown))
            for name, model in models.items()
        }
        rows = sample_rows(models, data.query, indices, drawings)
        picture = self.out / "samples.png"
        plot_grid(headings(_SHOWN_SAMPLES), rows, picture)
        save_separately(self.out / "images", data.query, indices, rows)
        return picture
