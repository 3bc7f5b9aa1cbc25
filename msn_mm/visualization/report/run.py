"""A training as the sections of its page see it: its directory, its encoder, images through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import load_weights, read_weights
from msn_mm.evaluation.encoder import FrozenEncoder, build_model, encoder_of
from msn_mm.evaluation.extraction import Mask, Rows, extract
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.shown_images import shown_images
from msn_mm.visualization.report.sprite import Sprite
from msn_mm.visualization.report.work_dir import WorkDir


@dataclass(frozen=True)
class Options:
    """How a page is made.

    Attributes:
        images: A folder of images to look at; None for the config's own.
        max_images: At most so many of them.
        seed: Of the masks and the map.
        batch_size: Images of a batch.
        workers: Data workers.
        amp: Compute in bfloat16 where that is safe.
        cache: Where features are kept.
        layout: ``umap``, ``pca``, or ``auto``: UMAP where it is installed.
    """

    images: Path | None = None
    max_images: int = 1000
    seed: int = 0
    batch_size: int = 64
    workers: int = 0
    amp: bool = False
    cache: FeatureCache | None = None
    layout: str = "auto"


class _Projection(nn.Module):
    """A method's projections, as an encoder's trunk."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.data_preprocessor = model.data_preprocessor

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.model.project(images)
        return projected


@dataclass
class Run:
    """What sections draw from; every part is made when the first section asks for it.

    Attributes:
        work: The training's directory.
        options: How the page is made.
        number: Which of several trainings.
    """

    work: WorkDir
    options: Options
    number: int = 0

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.work.name

    @cached_property
    def model(self) -> Any:
        """The trained model, in evaluation mode.

        Raises:
            UserError: Config or checkpoint are missing or do not fit each other.
        """
        cfg = self.work.cfg
        if cfg.get("model") is None:
            raise UserError(f"{self.work.config_path} has no model")
        model = build_model(cfg.model, seed=0, wants_weights=False)
        load_weights(model, read_weights(self.work.checkpoint), self.work.checkpoint)
        return model.eval()

    @cached_property
    def encoder(self) -> FrozenEncoder:
        """The representation that every protocol evaluates."""
        told = self.work.cfg.get("data_preprocessor")
        return encoder_of(self.model, amp=self.options.amp, data_preprocessor=told)

    @cached_property
    def images(self) -> EvaluationImages:
        """The images to look at: the user's, the config's held-out ones, or its training images.

        Raises:
            UserError: There are none, or fewer than two.
        """
        found = shown_images(self.work.cfg, self.options.images)
        if len(found) < 2:
            raise UserError(f"there are {len(found)} images to look at; give more by --images DIR")
        return found

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """``(n,)`` which of them: all, or so many at equal steps, in every class alike."""
        count = min(len(self.images), self.options.max_images)
        return np.linspace(0, len(self.images) - 1, count).round().astype(np.int64)

    @cached_property
    def names(self) -> list[str]:
        """Names of the ``n`` images."""
        return [self.images.names[i] for i in self.indices]

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """``(n,)`` labels, where the images have some."""
        found = self.images.labels
        return None if found is None else found[self.indices]

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes by label; empty without labels."""
        labels = self.images.labels
        if labels is None:
            return []
        return [str(c) for c in self.images.classes or range(int(labels.max()) + 1)]

    @cached_property
    def features(self) -> Rows:
        """``(n, D)`` representations."""
        return self.encode(self.encoder, f"{self.name}: features")

    @cached_property
    def projections(self) -> Rows:
        """``(n, P)`` projections of the target network, of a method with prototypes."""
        return self.encode(
            encoder_of(_Projection(self.model), amp=self.options.amp), f"{self.name}: projections"
        )

    @cached_property
    def sprite(self) -> Sprite:
        """Small pictures of the ``n`` images, in one."""
        return Sprite((self.images[int(i)] for i in self.indices), f"sprite{self.number}")

    def encode(self, encoder: FrozenEncoder, progress: str, mask: Mask | None = None) -> Rows:
        """Return the rows of the ``n`` images."""
        rows = extract(
            encoder,
            self.images,
            self.indices,
            mask=mask or Mask(),
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            cache=self.options.cache,
            progress=progress,
        )
        assert rows is not None  # one process
        return rows
