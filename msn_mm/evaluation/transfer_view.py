"""The fixed view of a transfer: a square, then its centre (appendix C.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from msn_mm.datasets import EvalCrop, LabelledImages
from msn_mm.errors import UserError
from msn_mm.utils.config_types import builds

RESIZE, CROP = 256, 224


def transfer_view(
    cfg: Config,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str | None = None,
    resize_mode: str | None = None,
    channels: int | None = None,
) -> EvalCrop:
    """Return the view through which a model sees the images of another data set.

    Every image, whatever its size, is resized to a square of 256 x 256 pixels
    and cut to its centre of 224 x 224. The model's config may ask for other
    sizes: those of its own ``EvalCrop``, or, where that cuts nothing (models of
    small images) or is missing, what the backbone's ``img_size`` says: its
    square without a cut below 224 pixels, 224 out of 256 scaled to it above.
    The channels are the model's, so a grey model sees colour images in grey and
    a colour model grey images thrice.

    Args:
        cfg: The model's config.
        resize: Side before the cut, instead of the above.
        crop: Side of the cut, instead of the above; a ``resize`` given alone
            below the usual cut is not cut.
        interpolation: ``bilinear`` (default) or ``bicubic``.
        resize_mode: ``square`` (default) or ``short``.
        channels: Instead of the model's.

    Raises:
        UserError: A setting is impossible.

    Source: Assran et al. 2022, appendix C.5.
    """
    usual_resize, usual_crop = _usual_sides(cfg)
    fits = usual_crop is not None and (resize is None or usual_crop <= resize)
    try:
        return EvalCrop(
            resize=usual_resize if resize is None else resize,
            crop=usual_crop if crop is None and fits else crop,
            resize_mode=resize_mode or "square",
            channels=channels or model_channels(cfg),
            interpolation=interpolation or "bilinear",
            window=model_window(cfg) if channels in (None, model_channels(cfg)) else None,
        )
    except ValueError as error:
        raise UserError(f"transfer: {error}") from error


def model_channels(cfg: Config) -> int:
    """Return how many channels a config's model takes; 3 where it does not say."""
    backbone = _backbone(cfg)
    for key in ("in_chans", "in_channels"):
        if backbone.get(key) is not None:
            return int(backbone[key])
    model = cfg.get("model") or {}
    for preprocessor in (model.get("data_preprocessor"), cfg.get("data_preprocessor")):
        if preprocessor and preprocessor.get("mean") is not None:
            return len(preprocessor["mean"])
    return int((own_view(cfg) or {}).get("channels", 3))


def model_window(cfg: Config) -> Any:
    """Return the window of values that a config's model is shown, ``None`` for all.

    That of its training views, or else of its own ``EvalCrop``.
    """
    loader = cfg.get("train_dataloader") or {}
    views = (loader.get("dataset") or {}).get("transform") or {}
    for transform in (views, own_view(cfg) or {}):
        if isinstance(transform, Mapping) and transform.get("window") is not None:
            return transform["window"]
    return None


def own_view(cfg: Config) -> Mapping[str, Any] | None:
    """Return the ``EvalCrop`` of a config's test or validation data, None where there is none.

    That of its labelled images comes first.
    """
    loaders = [cfg.get(name) or {} for name in ("test_dataloader", "val_dataloader")]
    for dataset in (labelled_config(cfg), *(loader.get("dataset") for loader in loaders)):
        transform = dataset.get("transform") if isinstance(dataset, Mapping) else None
        if isinstance(transform, Mapping) and builds(transform, EvalCrop.__name__):
            return transform
    return None


def labelled_config(cfg: Config, part: str = "test") -> Mapping[str, Any] | None:
    """Return the ``LabelledImages`` that a config names, None where there is none.

    Args:
        cfg: A config.
        part: ``"test"`` or ``"val"``; the other one serves where it is missing.
    """
    for name in (part, "val" if part == "test" else "test"):
        dataset = (cfg.get(f"{name}_dataloader") or {}).get("dataset")
        if isinstance(dataset, Mapping) and builds(dataset, LabelledImages.__name__):
            return dataset
    return None


def _usual_sides(cfg: Config) -> tuple[int, int | None]:
    view = own_view(cfg)
    if view is not None and view.get("crop", CROP) is not None:
        crop = int(view.get("crop", CROP))
        return int(view.get("resize", RESIZE) or crop), crop
    size = _image_size(cfg) or (view or {}).get("resize")
    if size is None:
        return RESIZE, CROP
    if view is not None or size < CROP:
        return size, None
    return round(size * RESIZE / CROP), size


def _image_size(cfg: Config) -> int | None:
    size = _backbone(cfg).get("img_size")
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    return None if size is None else int(size)


def _backbone(cfg: Config) -> Mapping[str, Any]:
    model = cfg.get("model") or {}
    found = model.get("backbone", model)
    return found if isinstance(found, Mapping) else {}
