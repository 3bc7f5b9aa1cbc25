"""The few calls that a notebook needs: features of images, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.launch import load_config, with_options
from msn_mm.evaluation.data import LabelledData, labelled_data, part_images
from msn_mm.evaluation.extraction import Mask
from msn_mm.evaluation.extraction_run import ExtractionRun
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.feature_files import ImageFeatures
from msn_mm.evaluation.features import check_finite
from msn_mm.evaluation.folder_images import folder_images
from msn_mm.evaluation.logistic_regression import SOLVER
from msn_mm.evaluation.low_shot_protocol import LowShotProtocol, extract_low_shot, measure
from msn_mm.models.readout import ReadOut
from msn_mm.utils.protocol_options import default_workers

__all__ = ["ImageFeatures", "evaluate_lowshot", "extract_features"]


def extract_features(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    images: str | Path | EvaluationImages | Literal["support", "query", "all"] = "query",
    *,
    blocks: int = 1,
    norm: bool = False,
    mask_ratio: float = 0.0,
    seed: int = 0,
    batch_size: int = 64,
    workers: int | None = None,
    amp: bool = False,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> ImageFeatures:
    """Represent images by a frozen encoder, in this process.

    Args:
        config: Config of the model, by path, by name, or loaded.
        checkpoint: Its weights; ``None`` for those that the config builds.
        images: A folder of images, or ``"support"``, ``"query"`` or ``"all"`` of
            the config's labelled data, or images with a view of their own.
        blocks: CLS tokens of this many last blocks, concatenated.
        norm: After the final norm instead of before it.
        mask_ratio: Share of patches to drop.
        seed: Seed of the masks.
        batch_size: Images of a batch.
        workers: Data workers; 0 reads in this process; default: one a core, 8 at most.
        amp: Compute in bfloat16 where that is safe.
        device: Where to compute; default: the first GPU if there is one.
        cache: Directory in which features are kept and found again.
        cfg_options: Changes of the config, as ``--cfg-options`` of the tools.

    Returns:
        The features, in the order of the images.

    Raises:
        UserError: A mistake in the config, checkpoint or images.
    """
    cfg = _config(config, cfg_options)
    if isinstance(images, EvaluationImages):
        parts = {"images": images}
    elif images in ("support", "query", "all"):
        parts = part_images(cfg, str(images))
    else:
        parts = {"images": folder_images(cfg, images)}
    encode = _run(blocks, norm, batch_size, workers, amp, device, cache).of(cfg, checkpoint)
    rows = {}
    for name, part in parts.items():
        found = encode(part, mask=Mask(mask_ratio, seed))
        assert found is not None  # one process
        check_finite(found)
        rows[name] = found
    return ImageFeatures.of_parts(parts, rows)


def evaluate_lowshot(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    images_per_class: Sequence[int] = (1, 2, 5),
    splits: int = 3,
    *,
    fractions: Sequence[float] = (),
    subset_files: Sequence[str | Path] = (),
    lambd: float | Literal["cv"] = 0.0025,
    solver: str = SOLVER,
    mask_ratios: Sequence[float] = (),
    seed: int = 0,
    data: LabelledData | None = None,
    blocks: int = 1,
    norm: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    amp: bool = False,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure low-shot accuracy as ``tools/lowshot.py`` does, in this process.

    Args:
        config: Config of the model and, without ``data``, of the labelled data.
        checkpoint: Its weights; ``None`` for those that the config builds.
        images_per_class: Numbers of labelled images a class.
        splits: Label splits of each number and fraction.
        fractions: Shares of every class's images.
        subset_files: Files that name the labelled images, instead of the three above.
        lambd: Regularisation, or ``"cv"``.
        solver: cyanure's algorithm.
        mask_ratios: Masks under which the classifier also learns.
        seed: Seed of splits and masks.
        data: Labelled and held-out images other than the config's.
        blocks: See :func:`extract_features`, as are all others.
        norm: After the final norm instead of before it.
        batch_size: Images of a batch.
        workers: Data workers.
        amp: Compute in bfloat16 where that is safe.
        device: Where to compute.
        cache: Directory in which features are kept and found again.
        cfg_options: Changes of the config.

    Returns:
        By column (``"1"`` image a class, ``"1%"``, ...): ``top1_mean``,
        ``top1_std``, ``top1`` (one a split) and more, accuracies in percent;
        see :func:`msn_mm.evaluation.low_shot_protocol.measure`.

    Raises:
        UserError: A mistake in the config, checkpoint, data or numbers.
    """
    cfg = _config(config, cfg_options)
    protocol = LowShotProtocol(
        images_per_class=() if subset_files else images_per_class,
        fractions=() if subset_files else fractions,
        subset_files=[subset_files] if isinstance(subset_files, str | Path) else subset_files,
        splits=splits,
        seed=seed,
        lambd=lambd,
        solver=solver,
        mask_ratios=mask_ratios,
    )
    data = data or labelled_data(cfg)
    label_splits = protocol.label_splits(data)
    run = _run(blocks, norm, batch_size, workers, amp, device, cache)
    encode = run.of(cfg, checkpoint)
    features = extract_low_shot(encode, data.seen_by(cfg), label_splits, protocol)
    assert features is not None  # one process
    return measure(features, data, label_splits, protocol)


def _config(config: str | Path | Config, options: Mapping[str, Any] | None) -> Config:
    if isinstance(config, Config):
        return with_options(config, options) if options else config
    return load_config(config, options)


def _run(
    blocks: int,
    norm: bool,
    batch_size: int,
    workers: int | None,
    amp: bool,
    device: str | torch.device | None,
    cache: str | Path | None,
) -> ExtractionRun:
    return ExtractionRun(
        readout=ReadOut(blocks, norm),
        device=None if device is None else torch.device(device),
        batch_size=batch_size,
        workers=default_workers() if workers is None else workers,
        amp=amp,
        cache=None if cache is None else FeatureCache(cache),
    )
