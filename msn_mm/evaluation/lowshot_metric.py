"""Low-shot and k-NN accuracy as an MMEngine metric, for validation and test loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import gather_object
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from msn_mm.engine.distributed import decided_by_first
from msn_mm.evaluation.features import Features
from msn_mm.evaluation.knn import weighted_knn_accuracy
from msn_mm.evaluation.lowshot import low_shot_accuracy
from msn_mm.registry import METRICS


@METRICS.register_module()
class LowShotMetric(BaseMetric):
    """Low-shot logistic regression and weighted k-NN on frozen features.

    It wants a data set of support and query images and a model whose
    ``predict`` mode returns one ``{"feature": (D,) tensor, "label": int,
    "support": bool}`` an image. The images of all processes are gathered,
    ordered by their index in the data set and counted once each, however the
    sampler has dealt or padded them, so the values do not depend on the
    number of processes.

    The flat names suit MMEngine's logs: ``lowshot/<n>_top1`` and
    ``lowshot/<n>_std`` (sample standard deviation over the splits) for n
    labelled images a class, and ``knn/top1``; all in percent.
    :attr:`last` keeps the accuracy of every split.

    Args:
        images_per_class: Numbers of labelled images a class; empty for none.
        splits: Label splits for each of them.
        knn_k: Neighbours of the k-NN vote; ``None`` for none.
        knn_temperature: Temperature of its weights.
        lambd: Regularisation of the logistic regression.
        seed: Seed of the label splits.
        collect_device: Kept for MMEngine's interface; features travel through
            the process group.

    Raises:
        ValueError: Nothing is to be measured, or ``splits`` below 1.
    """

    def __init__(
        self,
        images_per_class: Sequence[int] | int = (1, 2, 5),
        splits: int = 10,
        knn_k: int | None = 10,
        knn_temperature: float = 0.07,
        lambd: float = 0.0025,
        seed: int = 0,
        collect_device: str = "cpu",
    ) -> None:
        # BaseMetric warns about a missing prefix; names here carry their own
        super().__init__(collect_device=collect_device, prefix="-")
        self.prefix = None
        if isinstance(images_per_class, int):
            images_per_class = (images_per_class,)
        if any(type(count) is not int or count < 1 for count in images_per_class):
            raise ValueError(f"images_per_class is {images_per_class!r}; give (1, 5)")
        if not images_per_class and knn_k is None:
            raise ValueError("LowShotMetric needs images_per_class or knn_k")
        if splits < 1:
            raise ValueError(f"splits must be at least 1, not {splits}")
        self.images_per_class = tuple(images_per_class)
        self.splits = splits
        self.knn_k = knn_k
        self.knn_temperature = knn_temperature
        self.lambd = lambd
        self.seed = seed
        self.last: dict[str, Any] = {}
        self._device = torch.device("cpu")

    def settings(self) -> dict[str, Any]:
        """Return what the values depend on, for ``results.json``."""
        return {
            "images_per_class": list(self.images_per_class),
            "splits": self.splits,
            "knn_k": self.knn_k,
            "knn_temperature": self.knn_temperature,
            "lambd": self.lambd,
            "split_seed": self.seed,
            "top1_std": "sample standard deviation over the splits (ddof=1)",
        }

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the features, labels, roles and data set indices of one batch."""
        features = torch.stack([sample["feature"] for sample in data_samples])
        self._device = features.device
        self.results.append(
            {
                "index": np.asarray(data_batch["data_samples"]["index"], dtype=np.int64),
                "features": features.detach().float().cpu().numpy(),
                "labels": np.array([int(sample["label"]) for sample in data_samples]),
                "support": np.array([bool(sample["support"]) for sample in data_samples]),
            }
        )

    def evaluate(self, size: int) -> dict[str, float]:
        """Measure over the images of all processes.

        Args:
            size: Number of images in the data set.

        Returns:
            The flat metrics, the same on every process.

        Raises:
            RuntimeError: Some images of the data set never arrived.
        """
        shares = gather_object(_join(self.results), dst=0)
        self.results.clear()

        def measure() -> dict[str, float]:
            assert shares is not None
            joined = _join(shares)
            index, first = np.unique(joined.get("index", ()), return_index=True)
            if len(index) != size:
                raise RuntimeError(f"{len(index)} different images of {size} arrived")
            return self.compute_metrics([{key: value[first] for key, value in joined.items()}])

        # every process raises where the measuring one does; none is left waiting
        return decided_by_first(measure)

    def compute_metrics(self, results: list[dict[str, NDArray[Any]]]) -> dict[str, float]:
        """Measure on already gathered results, each as :meth:`process` keeps them."""
        joined = _join(results)
        names = (self.dataset_meta or {}).get("classes")
        return self.measure(
            Features(joined["features"], joined["labels"], joined["support"]), class_names=names
        )

    def measure(
        self, features: Features, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Measure given features; the flat metrics."""
        support, support_labels, query, query_labels = features.split()
        self.last = {}
        flat: dict[str, float] = {}
        if self.images_per_class:
            self.last = low_shot_accuracy(
                support,
                support_labels,
                query,
                query_labels,
                images_per_class=self.images_per_class,
                splits=self.splits,
                lambd=self.lambd,
                seed=self.seed,
                class_names=class_names,
            )
            for shots, values in self.last.items():
                flat[f"lowshot/{shots}_top1"] = values["top1_mean"]
                flat[f"lowshot/{shots}_std"] = values["top1_std"]
        if self.knn_k is not None:
            top1 = weighted_knn_accuracy(
                support,
                support_labels,
                query,
                query_labels,
                k=self.knn_k,
                temperature=self.knn_temperature,
                device=self._device,  # where the model computes
            )
            self.last["knn"] = {"top1": top1, "k": self.knn_k}
            flat["knn/top1"] = top1
        return flat


def _join(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Concatenate the arrays of several batches or processes."""
    filled = [part for part in parts if part and len(part["index"])]
    if not filled:
        return {}
    return {key: np.concatenate([part[key] for part in filled]) for key in filled[0]}
