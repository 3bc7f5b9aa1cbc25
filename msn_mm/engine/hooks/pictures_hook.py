"""Pictures beside the scalars: what the augmentation does, what the encoder looks at, its features.

Shapes: n images, C channels, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, TensorboardVisBackend

from msn_mm.errors import UserError
from msn_mm.registry import HOOKS

_MASK_RATIOS = (0.0, 0.3, 0.5, 0.7)
# Sides in pixels of an attention map and of a thumbnail of the projector.
_MAP_SIDE, _THUMB_SIDE = 128, 32
_BATCH = 64


@HOOKS.register_module()
class PicturesHook(Hook):
    """Show views, attention and features in TensorBoard, Weights & Biases or MLflow.

    After the first step ``views`` has the views of some images of its batch, augmented and
    masked as the network got them. After each validation, and at the end, ``attention`` has
    the attention of the CLS token for some held-out images (training images where a config
    has no others), whole and masked. At the end TensorBoard's projector gets features with
    labels and thumbnails. Without one of those backends nothing is done.

    The training is the same with and without it, bitwise: no generator is touched, and the
    first process alone draws. Weights that are sharded over processes (FSDP) are not
    gathered for pictures, so there the views are all.

    Args:
        views: Images in the grid of views; 0 for none.
        attention: Images in the grid of attention; 0 for none.
        features: Images in the projector; 0 for none.

    Raises:
        ValueError: A number is negative.
    """

    priority = "VERY_LOW"

    def __init__(self, views: int = 4, attention: int = 4, features: int = 500) -> None:
        if min(views, attention, features) < 0:
            raise ValueError(
                f"PicturesHook: views {views}, attention {attention} and features {features} "
                "must be 0 or more"
            )
        self.views = views
        self.attention = attention
        self.features = features
        self._awaits_views = True
        self._images: Any = None
        self._drawn_at = -1

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Show the views of this process's first batch."""
        if not self._awaits_views:
            return
        self._awaits_views = False
        model = _bare(runner)
        if (
            not (self.views and self._backends(runner) and hasattr(model, "hidden_patches"))
            or not isinstance(data_batch, Mapping)
            or not isinstance(data_batch.get("inputs"), Mapping)
        ):
            return
        from msn_mm.visualization.shown_views import views_of_batch
        from msn_mm.visualization.view_sheet import view_sheet

        with torch.no_grad():
            shown = views_of_batch(model, model.data_preprocessor, data_batch, self.views)
        self._show(runner, "views", view_sheet(shown), runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Show attention maps."""
        self._survive(runner, self._show_attention)

    def after_train(self, runner: Runner) -> None:
        """Show attention maps of the trained encoder, and its features."""
        self._survive(runner, self._show_attention)
        self._survive(runner, self._show_features)

    def _survive(self, runner: Runner, draw: Callable[[Runner], None]) -> None:
        """Draw; a picture that cannot be drawn costs a line of the log and not the training."""
        if not self._backends(runner):
            return
        # Not by isinstance: DTensor's module takes its time to import.
        if any(hasattr(weight, "full_tensor") for weight in _bare(runner).parameters()):
            return
        try:
            draw(runner)
        except (UserError, OSError) as error:
            runner.logger.warning(f"no picture in the log: {error}")

    def _show_attention(self, runner: Runner) -> None:
        from msn_mm.evaluation.attention import attention_maps
        from msn_mm.evaluation.encoder import encoder_of
        from msn_mm.evaluation.extraction import Mask
        from msn_mm.models.backbones.masked_vit import MaskedViT
        from msn_mm.visualization.attention_picture import attention_picture
        from msn_mm.visualization.view_sheet import sheet

        encoder = encoder_of(_bare(runner))
        if not self.attention or not isinstance(encoder.trunk, MaskedViT):
            return
        if self._drawn_at == runner.iter:
            return  # the last validation has just shown them
        self._drawn_at = runner.iter
        indices = self._indices(runner, self.attention)
        views = torch.stack([self._images[i] for i in indices])
        patch_size = encoder.trunk.patch_size
        columns = []
        for ratio in _MASK_RATIOS:
            maps = attention_maps(encoder, views, ratio, Mask(ratio).keys(indices))
            columns.append(
                [
                    attention_picture(view, heads.mean(0), _MAP_SIDE, patch_size)
                    for view, heads in zip(views, maps, strict=True)
                ]
            )
        self._show(runner, "attention", sheet(list(zip(*columns, strict=True))), runner.iter)

    def _show_features(self, runner: Runner) -> None:
        from msn_mm.evaluation.encoder import encoder_of

        boards = [b for b in self._backends(runner) if isinstance(b, TensorboardVisBackend)]
        if not boards or self.features < 2:
            return
        indices = self._indices(runner, self.features)
        # Not by extract, which all processes of a group call: this one draws by itself.
        encoder = encoder_of(_bare(runner))
        views = [self._images[i] for i in indices]
        parts = [views[i : i + _BATCH] for i in range(0, len(views), _BATCH)]
        rows = torch.cat([encoder(torch.stack(part)) for part in parts])
        thumbs = torch.stack([_thumb(view) for view in views])
        labels, classes = self._images.labels, self._images.classes
        names = [self._images.names[i] for i in indices]
        if labels is not None:
            names = [str(classes[labels[i]] if classes else labels[i]) for i in indices]
        for board in boards:
            board.experiment.add_embedding(
                rows.cpu(),
                metadata=[" ".join(name.split()) for name in names],
                label_img=thumbs,
                global_step=runner.iter,
                tag="features",
            )

    def _indices(self, runner: Runner, count: int) -> list[int]:
        """Return so many images at equal steps, in data sorted by class of every class."""
        if self._images is None:
            from msn_mm.evaluation.shown_images import shown_images

            # The loop is a mere config where nothing is trained.
            loader = getattr(runner._train_loop, "dataloader", None)
            training = getattr(getattr(loader, "dataset", None), "dataset", None)
            self._images = shown_images(runner.cfg, training=training)
        count = min(count, len(self._images))
        places = np.linspace(0, len(self._images) - 1, count).round().astype(int)
        return [int(i) for i in places]

    def _show(self, runner: Runner, name: str, picture: np.ndarray, step: int) -> None:
        for backend in self._backends(runner):
            # MLflow keeps a file, whose name tells its format.
            own = f"{name}_{step}.png" if isinstance(backend, MLflowVisBackend) else name
            backend.add_image(own, picture, step=step)

    @staticmethod
    def _backends(runner: Runner) -> list[Any]:
        """The backends that a person looks at; MMEngine has them on the first process alone."""
        found = runner.visualizer._vis_backends.values() if runner.rank == 0 else ()
        return [backend for backend in found if not isinstance(backend, LocalVisBackend)]


def _bare(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _thumb(view: torch.Tensor) -> torch.Tensor:
    """uint8 ``(C, H, W)`` -> float32 ``(3, side, side)`` in [0, 1]."""
    image = view[:3] if len(view) >= 3 else view[:1].expand(3, -1, -1)
    small = torch.nn.functional.interpolate(
        image[None].float() / 255, (_THUMB_SIDE, _THUMB_SIDE), mode="bilinear", antialias=True
    )
    return small[0].clamp(0, 1)
