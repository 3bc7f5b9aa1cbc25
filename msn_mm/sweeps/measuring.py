"""One protocol for every run of a sweep, and for what was never trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mmengine.config import Config

from msn_mm.errors import UserError
from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.knn import weighted_knn
from msn_mm.evaluation.low_shot_protocol import LowShotFeatures, measure
from msn_mm.evaluation.partial.finished import asked_images
from msn_mm.evaluation.splits import compact
from msn_mm.sweeps.run_place import RunPlace
from msn_mm.sweeps.sweep_file import RAW_PIXELS, UNTRAINED, Sweep, SweepRun

KNN = "knn "
Values = Mapping[str, float]


class Measuring:
    """Low-shot and k-NN accuracy of encoders, on one set of images and splits.

    Args:
        sweep: The sweep; the first run's config names the labelled images.

    Raises:
        UserError: The config names none, or a k or a split asks for more than there are.
    """

    def __init__(self, sweep: Sweep) -> None:
        first = sweep.runs[0].cfg
        loader = first.get("test_dataloader") or first.get("val_dataloader") or {}
        self.asked = sweep.evaluation
        self.data = labelled_data(first)
        self.splits = self.asked.protocol.label_splits(self.data)
        support = len(self.data.support)
        if max(self.asked.knn, default=0) > support:
            raise UserError(f"evaluation.knn asks for more neighbours than the {support} images")
        self._batch_size = loader.get("batch_size") or 64
        self._workers = loader.get("num_workers") or 0

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on beside the weights."""
        return {**self.asked.settings(), **self.data.settings()}

    @cached_property
    def _asked_of(self) -> dict[str, str]:
        """What tells the images and their labels from any others."""
        parts = {
            "support": (self.data.support, self.data.support_labels),
            "query": (self.data.query, self.data.query_labels),
        }
        return {name: asked_images(*part) for name, part in parts.items()}

    def of_place(self, place: RunPlace) -> dict[str, Any]:
        """Measure a finished run, or read what was measured before.

        Returns:
            ``{"values": ..., "seconds": duration of the training}``.

        Raises:
            UserError: The checkpoint is gone, or its features are of no use.
        """
        results = place.finished() or {}
        key = {"checkpoint": results.get("checkpoint_sha256"), **self.settings(), **self._asked_of}
        kept = place.measured(key)
        if kept is None:
            checkpoint = place.checkpoint()
            seconds = (results.get("metrics") or {}).get("run_seconds") or results.get("seconds")
            kept = {"values": self.values(place.run.cfg, checkpoint), "seconds": seconds}
            place.keep(key, kept)
        return kept

    def values(self, cfg: Config, checkpoint: Path | None, seed: int = 0) -> dict[str, float]:
        """Measure one encoder.

        Args:
            cfg: Its config.
            checkpoint: Its weights; ``None``: those that the config builds.
            seed: Seed of weights that are random.

        Returns:
            By column (``"1"`` image a class, ``"1%"``, ``"knn 10"``) top-1
            accuracy in percent, the mean over label splits.
        """
        encoder = build_encoder(cfg, checkpoint, seed=seed)
        seen = self.data.seen_by(cfg)
        support, query = (
            extract(encoder, part, batch_size=self._batch_size, workers=self._workers)
            for part in (seen.support, seen.query)
        )
        assert support is not None and query is not None  # one process
        union, _ = compact(self.splits)
        found = measure(
            LowShotFeatures(support[union], query), self.data, self.splits, self.asked.protocol
        )
        values = {column: float(one["top1_mean"]) for column, one in found.items()}
        if self.asked.knn:
            voted = weighted_knn(
                support,
                self.data.support_labels,
                query,
                self.data.query_labels,
                ks=self.asked.knn,
                temperature=self.asked.temperature,
                device=encoder.device,
            )
            values |= {f"{KNN}{k}": one["top1"] for k, one in voted.items()}
        return values

    def baselines(self, sweep: Sweep) -> dict[str, dict[str, Any]]:
        """Measure what was never trained: raw pixels once, each kind of encoder once a seed.

        Returns:
            By the row's name ``{"values": one dict a seed, "kind": baseline}``.
        """
        rows: dict[str, dict[str, Any]] = {}
        if "raw_pixels" in sweep.baselines:
            channels = len(self.data.support[0])
            normal = dict(mean=[0.0] * channels, std=[1.0] * channels)
            model = dict(type="RawPixels", in_channels=channels)
            pixels = Config(dict(model=model, data_preprocessor=normal))
            rows[RAW_PIXELS] = {"values": [self.values(pixels, None)], "kind": "raw_pixels"}
        if "untrained" in sweep.baselines:
            for name, runs in untrained_rows(sweep.runs, sweep.seeds[0]).items():
                values = [self.values(runs[0].cfg, None, seed) for seed in sweep.seeds]
                labels = [run.label for run in runs]
                rows[name] = {"values": values, "kind": "untrained", "runs": labels}
        return rows


def untrained_rows(runs: Sequence[SweepRun], seed: int = 0) -> dict[str, list[SweepRun]]:
    """Group runs by the weights that a seed gives their encoders, named for a table."""
    kinds: dict[str, list[SweepRun]] = {}
    for run in runs:
        kinds.setdefault(_start(build_encoder(run.cfg, None, seed=seed)), []).append(run)
    if len(kinds) == 1:
        return {f"{UNTRAINED} encoder": list(runs)}
    return {f"{UNTRAINED}, as {group[0].label}": group for group in kinds.values()}


def _start(encoder: FrozenEncoder) -> str:
    """Hash what an encoder makes of an image before any training.

    What acts in training alone (drop path) makes no other encoder.
    """
    about = encoder.description()
    found = hashlib.sha256(json.dumps([about["trunk"], about["mean"], about["std"]]).encode())
    for name, tensor in encoder.trunk.state_dict().items():
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def spread_over_seeds(values: Sequence[Values]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation of each column over the seeds.

    Args:
        values: One dict of columns a seed, at least one.

    Returns:
        By column ``top1`` (one a seed), ``top1_mean`` and, of several seeds,
        ``top1_std``.
    """
    rows = {}
    for column in values[0]:
        found = [one[column] for one in values]
        rows[column] = {"top1": found, "top1_mean": mean(found)}
        if len(found) > 1:
            rows[column]["top1_std"] = stdev(found)
    return rows
