"""A tool's extraction: its processes, its cache, and one encoder a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray

from msn_mm.engine.distributed import init_distributed
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.rows import Row
from msn_mm.models.readout import ReadOut, check_readout

Encode = Callable[..., "NDArray[np.float32] | None"]


@dataclass(frozen=True)
class ExtractionRun:
    """How a run of a tool extracts features.

    Attributes:
        readout: Which tensor of a trunk is the representation.
        device: Where this process computes; ``None`` for the first GPU if there is one.
        batch_size: Images of a batch on a process.
        workers: Data workers of a process.
        amp: Compute in bfloat16 where that is safe.
        cache: Where features are kept.
        processes: How many extract together.
        is_first: Whether this is the process that measures and writes.
    """

    readout: ReadOut
    device: torch.device | None
    batch_size: int
    workers: int
    amp: bool
    cache: FeatureCache | None
    processes: int = 1
    is_first: bool = True

    def encoder(self, cfg: Config, checkpoint: str | Path | None) -> FrozenEncoder:
        """Build an encoder; see :func:`~msn_mm.evaluation.encoder.build_encoder`."""
        return build_encoder(cfg, checkpoint, self.readout, self.device, self.amp)

    def of(
        self, cfg: Config, checkpoint: str | Path | None, mask_ratios: Sequence[float] = ()
    ) -> Encode:
        """Return :func:`~msn_mm.evaluation.extraction.extract` for one encoder.

        Args:
            cfg: Its config.
            checkpoint: Its weights.
            mask_ratios: Masks that it will be asked for.

        Raises:
            UserError: Config, checkpoint, read-out and masks do not fit each other.
        """
        encoder = self.encoder(cfg, checkpoint)
        check_readout(encoder.trunk, self.readout, max(mask_ratios, default=0.0))
        return self.by(encoder)

    def by(self, encoder: FrozenEncoder) -> Encode:
        """Return :func:`~msn_mm.evaluation.extraction.extract` for an encoder that is built."""
        return partial(
            extract,
            encoder,
            batch_size=self.batch_size,
            workers=self.workers,
            cache=self.cache,
        )

    def support_and_query(
        self, cfg: Config, checkpoint: str | Path | None, data: LabelledData
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return features of all labelled and held-out images; ``None`` off the first process."""
        encode = self.of(cfg, checkpoint)
        seen = data.seen_by(cfg)
        support = encode(seen.support, progress="labelled images")
        query = encode(seen.query, progress="held-out images")
        return None if support is None or query is None else (support, query)

    def check_rows(self, rows: Sequence[Row], mask_ratios: Sequence[float] = ()) -> None:
        """Refuse a row that cannot be measured, before the first one is.

        Args:
            rows: The rows; a single one has nothing before it to lose.
            mask_ratios: Masks that each encoder has to take.

        Raises:
            UserError: Weights, read-out or mask do not fit a row's model.
        """
        for row in rows if len(rows) > 1 else ():
            self.of(row.cfg, row.checkpoint, mask_ratios)

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, for ``results.json``."""
        return {
            "blocks": self.readout.blocks,
            "norm": self.readout.norm,
            "precision": "bfloat16 autocast" if self.amp else "float32",
            "batch_size": self.batch_size,
            "workers": self.workers,
            "processes": self.processes,
            "cache": None if self.cache is None else str(self.cache.directory),
        }


def start_extraction(args: Any) -> ExtractionRun:
    """Join the processes that a launcher started and set up what the command line asks for.

    Args:
        args: Parsed arguments of
            :func:`~msn_mm.utils.protocol_options.add_extraction_options`.

    Raises:
        UserError: The environment does not belong to the launcher.
    """
    started_by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    world = init_distributed(args.launcher or ("pytorch" if started_by_torchrun else "none"))
    return ExtractionRun(
        readout=ReadOut(args.blocks, args.norm),
        device=world.device,
        batch_size=args.batch_size,
        workers=args.workers,
        amp=args.amp,
        cache=None if args.cache is None else FeatureCache(args.cache),
        processes=world.size,
        is_first=world.rank == 0,
    )
