"""Command-line options of every tool on frozen features, and what they amount to.

Only light imports here: a tool's ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msn_mm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config
    from numpy.typing import NDArray

    from msn_mm.datasets.evaluation_images import EvaluationImages
    from msn_mm.engine.distributed import World
    from msn_mm.evaluation.encoder import FrozenEncoder, ReadOut
    from msn_mm.evaluation.extraction import Mask
    from msn_mm.evaluation.feature_cache import FeatureCache

DEFAULT_CACHE = "work_dirs/features"
# The word for a checkpoint that is not there: weights as the config builds them.
NO_CHECKPOINT = "none"


def default_workers() -> int:
    """Data workers of a process: one a core of its share, 8 at most."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, (os.cpu_count() or 1) // processes))


def add_extraction_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of feature extraction, in a group of their own."""
    group = parser.add_argument_group("feature extraction")
    group.add_argument(
        "--batch-size", type=int, default=64, help="images of a batch (default: %(default)s)"
    )
    group.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        help="processes that read images; 0 reads in the process itself (default: %(default)s)",
    )
    group.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    group.add_argument(
        "--blocks",
        type=int,
        default=1,
        metavar="N",
        help="concatenate the CLS tokens of the last N blocks (default: %(default)s)",
    )
    group.add_argument(
        "--norm", action="store_true", help="tokens after the final norm instead of before it"
    )
    cache = group.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache",
        default=DEFAULT_CACHE,
        metavar="DIR",
        help="where features are kept (default: %(default)s)",
    )
    cache.add_argument("--no-cache", action="store_true", help="keep no features")
    group.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="how several processes were started (default: pytorch under torchrun, else none)",
    )


@dataclass(frozen=True)
class Extraction:
    """Everything that extraction needs beside the model and the images.

    Attributes:
        world: This process's place and device.
        readout: Which tokens are the representation.
        amp: Compute in bfloat16.
        batch_size: Images of a batch.
        workers: Data workers of this process.
        cache: Where features are kept, or ``None``.
    """

    world: World
    readout: ReadOut
    amp: bool
    batch_size: int
    workers: int
    cache: FeatureCache | None

    @property
    def is_main(self) -> bool:
        """Whether this process measures, prints and writes."""
        return self.world.rank == 0

    def encoder(
        self, cfg: Config | Mapping[str, Any], checkpoint: str | Path | None, seed: int = 0
    ) -> FrozenEncoder:
        """Build an encoder on this process's device.

        Args:
            cfg: See :func:`~msn_mm.evaluation.encoder.build_encoder`.
            checkpoint: A path; ``None`` or the word ``none`` for weights as the
                config builds them.
            seed: Seed of random weights.
        """
        from msn_mm.evaluation.encoder import build_encoder

        path = checkpoint_path(checkpoint)
        return build_encoder(cfg, path, self.readout, self.world.device, self.amp, seed)

    def features(
        self,
        encoder: FrozenEncoder,
        images: EvaluationImages,
        indices: NDArray[np.int64] | None = None,
        mask: Mask | None = None,
        progress: str | None = "features",
    ) -> NDArray[np.float32] | None:
        """Extract with these options; see :func:`~msn_mm.evaluation.extraction.extract`."""
        from msn_mm.evaluation.extraction import Mask, extract

        return extract(
            encoder,
            images,
            indices,
            mask=mask or Mask(),
            batch_size=self.batch_size,
            workers=self.workers,
            cache=self.cache,
            progress=progress,
        )

    def settings(self) -> dict[str, Any]:
        """Return what the features depend on, for ``results.json``."""
        return {
            "blocks": self.readout.blocks,
            "norm": self.readout.norm,
            "amp": self.amp,
            "batch_size": self.batch_size,
            "workers": self.workers,
            "processes": self.world.size,
            "cache": None if self.cache is None else str(self.cache.directory),
        }


def start_extraction(args: argparse.Namespace) -> Extraction:
    """Join the process group and turn parsed options into what extraction needs.

    Args:
        args: Parsed by a parser with :func:`add_extraction_options`.

    Raises:
        UserError: An option is impossible, or the launcher does not fit.
    """
    if args.batch_size < 1:
        raise UserError(f"--batch-size is {args.batch_size}; it must be at least 1")
    if args.workers < 0:
        raise UserError(f"--workers is {args.workers}; it must be 0 or more")
    if args.blocks < 1:
        raise UserError(f"--blocks is {args.blocks}; it must be at least 1")
    from msn_mm.engine.distributed import init_distributed
    from msn_mm.evaluation.encoder import ReadOut
    from msn_mm.evaluation.feature_cache import FeatureCache

    return Extraction(
        world=init_distributed(args.launcher or _launcher()),
        readout=ReadOut(args.blocks, args.norm),
        amp=args.amp,
        batch_size=args.batch_size,
        workers=args.workers,
        cache=None if args.no_cache else FeatureCache(args.cache),
    )


def checkpoint_path(word: str | Path | None) -> Path | None:
    """Return the path of a checkpoint as given, ``None`` for the word ``none``."""
    return None if word is None or str(word) == NO_CHECKPOINT else Path(word)


def _launcher() -> str:
    return "pytorch" if "TORCHELASTIC_RUN_ID" in os.environ else "none"
