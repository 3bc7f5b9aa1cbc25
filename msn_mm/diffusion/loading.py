"""A trained RCDM and the images that it is shown, from what a command line names."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from msn_mm.datasets import EvalCrop, EvaluationImages, FileList, ImageFolder
from msn_mm.diffusion.conditioning_encoder import saved_encoder
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import load_weights, read_weights
from msn_mm.evaluation.data import LabelledData, labelled_data, part_images
from msn_mm.evaluation.encoder import build_encoder, build_model
from msn_mm.models.frozen_trunk import trunk_digest
from msn_mm.models.ops.masking import is_dropped, random_keep


def load_rcdm(cfg: Config, checkpoint: str | Path) -> RCDM:
    """Build an RCDM as it was trained: networks, moving average and encoder from its checkpoint.

    Args:
        cfg: The config that it was trained by; which encoder it names does not matter.
        checkpoint: A checkpoint of ``tools/rcdm.py train``.

    Returns:
        The model, on the first GPU if there is one.

    Raises:
        UserError: It is another config's, or no RCDM.
    """
    settings = cfg.get("model") or {}
    if settings.get("type") != RCDM.__name__:
        raise UserError(
            f"{cfg.filename or 'the config'} is not one of an RCDM; give the one it was trained by"
        )
    state = read_weights(checkpoint)
    encoder = saved_encoder(state, checkpoint)
    model = build_model({**settings, "encoder": encoder}, seed=0, wants_weights=False)
    assert isinstance(model, RCDM)
    # Texts differ in length from one encoder to the next.
    model.encoder_text = state["encoder_text"]
    load_weights(model, state, checkpoint)
    return model.to(model.encoder.device).eval()


def use_encoder(model: RCDM, cfg: Config, checkpoint: str | None) -> str | None:
    """Condition an RCDM on another encoder than the one in its checkpoint.

    Args:
        model: Changed in place.
        cfg: The encoder's config.
        checkpoint: Its weights.

    Returns:
        A warning, if it is not the encoder that the RCDM was trained with.

    Raises:
        UserError: Its representation has another width.
    """
    old = model.encoder
    encoder = build_encoder(cfg, checkpoint, old.readout, old.device, old.amp)
    width = encoder.width
    if width is None:
        side = (1, encoder.in_channels, model.encoder_size, model.encoder_size)
        width = encoder(torch.zeros(side, dtype=torch.uint8)).shape[1]
    trained = model.unet.representation_width
    if width != trained:
        raise UserError(
            f"--backbone: the representation of {checkpoint} has {width} numbers and this RCDM was "
            f"trained with {trained}; give the encoder that it was trained with, or leave "
            "--backbone out"
        )
    same = torch.equal(trunk_digest(encoder.trunk), model.trunk_digest.cpu())
    model._frozen, model.backbone = (encoder,), encoder.trunk
    return None if same else "--backbone is not the encoder that this RCDM was trained with"


def shown_images(model: RCDM, cfg: Config, folder: str | None) -> EvaluationImages:
    """Return the images of a folder, or the config's held-out ones, as the model reads them.

    Raises:
        UserError: There are none.
    """
    images = (
        EvaluationImages(ImageFolder(folder), _view(model))
        if folder is not None
        else part_images(cfg, "query")["query"].through(_view(model))
    )
    if len(images) == 0:
        raise UserError(f"--images {folder}: there are no images in it; give a directory of images")
    return images


def image_files(model: RCDM, paths: list[str]) -> EvaluationImages:
    """Return image files as the model reads them."""
    return EvaluationImages(FileList(paths), _view(model))


def labelled_images(model: RCDM, cfg: Config) -> LabelledData:
    """Return the config's labelled data as the model reads images."""
    found = labelled_data(cfg)
    view = _view(model)
    return LabelledData(found.support.through(view), found.query.through(view), found.name)


def read_pixels(images: EvaluationImages, indices: list[int]) -> Tensor:
    """Return images as the model takes them, float32 ``(N, C, H, H)`` in [-1, 1]."""
    return torch.stack([images[i] for i in indices]).float() / 127.5 - 1.0


def hidden_patches(model: RCDM, ratio: float, keys: Tensor) -> Tensor | None:
    """Tell which patches the encoder does not see: ``(N,)`` keys -> ``(N, R, K)`` bool."""
    if not ratio:
        return None
    rows, columns = model.backbone.grid_of(  # type: ignore[operator]
        model.encoder_size, model.encoder_size
    )
    keep = random_keep(len(keys), rows * columns, ratio, keys=keys)
    return is_dropped(keep, rows * columns).unflatten(1, (rows, columns))


def check_masks(model: RCDM, ratios: list[float], name: str) -> None:
    """Refuse masks of an encoder that cannot drop patches.

    Raises:
        UserError: Naming the encoder.
    """
    if any(ratios) and not model.encoder.can_mask:
        raise UserError(
            f"{name}: backbone {type(model.backbone).__name__} cannot drop patches; give "
            "--mask-ratio 0"
        )


def _view(model: RCDM) -> EvalCrop:
    side = model.side
    channels = model.encoder.in_channels
    return EvalCrop(resize=side, crop=side, channels=channels, interpolation="bicubic")
