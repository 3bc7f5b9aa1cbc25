"""The low-shot protocol from start to end, for one encoder.

A few labelled images a class, one centre crop each, the frozen target trunk,
L2-regularised logistic regression, and the accuracy on the held-out images
(MSN, arXiv 2204.07141, Appendix C.2). Optionally the classifier learns from
masked images and is asked about whole ones (Appendix G, table 15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.extraction import Mask
from msn_mm.evaluation.logistic_regression import SOLVER
from msn_mm.evaluation.lowshot import evaluate_splits
from msn_mm.evaluation.split_files import (
    listed_splits,
    read_split_files,
    save_splits,
    splits_from_files,
)
from msn_mm.evaluation.splits import Splits, compact, draw_splits
from msn_mm.utils.progress import Progress
from msn_mm.utils.protocol_options import CROSS_VALIDATION

Extract = Callable[..., "NDArray[np.float32] | None"]


@dataclass(frozen=True)
class LowShotProtocol:
    """What is measured; nothing of the encoder.

    Attributes:
        images_per_class: Numbers of labelled images a class.
        fractions: Shares of every class's images, in (0, 1].
        subset_files: Files that name the labelled images instead, one a split.
        splits: Label splits of each number and share.
        seed: Seed of the splits and of the masks.
        lambd: Regularisation, or ``"cv"`` to choose it within the labelled images.
        mask_ratios: Masks under which the classifier also learns.
        solver: cyanure's algorithm, see
            :func:`~msn_mm.evaluation.logistic_regression.fit_logistic_regression`.
    """

    images_per_class: Sequence[int] = (1, 2, 5)
    fractions: Sequence[float] = ()
    subset_files: Sequence[str | Path] = ()
    splits: int = 3
    seed: int = 0
    lambd: float | Literal["cv"] = 0.0025
    mask_ratios: Sequence[float] = ()
    solver: str = SOLVER

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed {self.seed} is negative; give 0 or more")
        if self.splits < 1:
            raise UserError(f"{self.splits} label splits measure nothing; ask for at least 1")
        for count in self.images_per_class:
            if count < 1:
                raise UserError(f"{count} labelled images a class: ask for at least 1")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise UserError(f"fraction {fraction:g} is not in (0, 1]; 1 % is 0.01")
        if self.lambd != CROSS_VALIDATION and not float(self.lambd) > 0:
            raise UserError(f"lambd is {self.lambd}; give a number above 0, or 'cv'")
        for ratio in self.mask_ratios:
            if not 0 < ratio < 1:
                raise UserError(f"mask ratio {ratio:g} is not between 0 and 1; try 0.7")

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, for ``results.json``."""
        return {
            "images_per_class": list(self.images_per_class),
            "fractions": list(self.fractions),
            "subset_files": [str(file) for file in self.subset_files],
            "splits": self.splits,
            "seed": self.seed,
            "lambd": self.lambd,
            "solver": self.solver,
            "mask_ratios": list(self.mask_ratios),
            "std": "sample standard deviation over the splits (ddof=1)",
        }

    def label_splits(self, data: LabelledData) -> Splits:
        """Draw the label splits, or read them from the files.

        Raises:
            UserError: A class has too few images, or a file does not fit the data.
        """
        labels = data.support_labels
        if self.subset_files:
            return splits_from_files(self.subset_files, data.support.names, labels, data.classes)
        return draw_splits(
            labels,
            images_per_class=self.images_per_class,
            fractions=self.fractions,
            splits=self.splits,
            seed=self.seed,
            class_names=data.classes,
        )

    def split_files(self, data: LabelledData, splits: Splits, out: Path) -> list[Path]:
        """Return a file for each split: those that were given, or new ones below ``out/splits``.

        New ones take the place of those that the ``results.json`` of ``out`` lists.

        Raises:
            UserError: A name cannot be a line of a file.
        """
        if self.subset_files:
            labels = data.support_labels
            read = read_split_files(self.subset_files, data.support.names, labels, data.classes)
            return [file for file, _, _ in read]
        return save_splits(out / "splits", splits, data.support.names, listed_splits(out))


@dataclass(frozen=True)
class LowShotFeatures:
    """One encoder's features of the images that a protocol needs.

    Attributes:
        support: ``(u, D)`` features of the labelled images of all splits.
        query: ``(m, D)`` features of the held-out images.
        masked: By mask ratio, ``(u, D)`` features of the labelled images masked.
    """

    support: NDArray[np.float32]
    query: NDArray[np.float32]
    masked: Mapping[float, NDArray[np.float32]] = field(default_factory=dict)


def extract_low_shot(
    extract: Extract, data: LabelledData, splits: Splits, protocol: LowShotProtocol
) -> LowShotFeatures | None:
    """Extract what the protocol needs, and no other image; collective over all processes.

    Args:
        extract: ``extract(images, indices=None, mask=Mask(), progress=...)``, as
            :func:`msn_mm.evaluation.extraction.extract` of one encoder.
        data: Labelled and held-out images.
        splits: Label splits over the labelled images.
        protocol: The mask ratios and their seed.

    Returns:
        The features on the first process, ``None`` on the others.
    """
    union, _ = compact(splits)
    support = extract(data.support, union, progress="labelled images")
    query = extract(data.query, progress="held-out images")
    masked = {
        ratio: extract(
            data.support,
            union,
            mask=Mask(ratio, protocol.seed),
            progress=f"labelled images, {ratio:.0%} masked",
        )
        for ratio in protocol.mask_ratios
    }
    if support is None or query is None:
        return None
    return LowShotFeatures(
        support, query, {ratio: part for ratio, part in masked.items() if part is not None}
    )


def measure(
    features: LowShotFeatures,
    data: LabelledData,
    splits: Splits,
    protocol: LowShotProtocol,
    progress: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit and test one encoder's classifiers.

    Args:
        features: From :func:`extract_low_shot`.
        data: Labelled and held-out images.
        splits: Label splits over the labelled images.
        protocol: Regularisation, and the seed of its cross-validation.
        progress: What to call the work on the terminal; ``None`` for silence.

    Returns:
        By column what :func:`~msn_mm.evaluation.lowshot.evaluate_splits` gives;
        with mask ratios also ``masked``, by ratio the same for classifiers
        that learnt from masked images, with ``top1_delta`` (one a split) and
        ``top1_delta_mean`` against the whole images, likewise for top-5.

    Raises:
        UserError: Features that are not finite, or classes that do not fit.
    """
    union, positions = compact(splits)
    labels, asked = data.support_labels[union], data.query_labels

    def fits(support: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
        with Progress(sum(map(len, splits.values())), progress, unit="fits") as shown:
            return evaluate_splits(
                support,
                labels,
                features.query,
                asked,
                positions,
                lambd=protocol.lambd,
                seed=protocol.seed,
                solver=protocol.solver,
                class_names=data.classes,
                progress=shown.step,
            )

    metrics = fits(features.support)
    for ratio, support in features.masked.items():
        for column, values in fits(support).items():
            whole = metrics[column]
            for top in ("top1", "top5"):
                if top in values:
                    delta = np.subtract(values[top], whole[top]).tolist()
                    values[f"{top}_delta"] = delta
                    values[f"{top}_delta_mean"] = float(np.mean(delta))
            whole.setdefault("masked", {})[f"{ratio:g}"] = values
    return metrics
