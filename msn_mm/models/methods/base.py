"""What every pre-training method is to the rest of the package.

Legend: B images, V views of a group, C channels, S side, D representation width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from mmengine.model import BaseModel
from torch import Tensor, nn

from msn_mm.models.ops.micro_batch import MicroBatch, Rows, in_pieces
from msn_mm.models.readout import represent, trunk_of
from msn_mm.registry import MODELS

Views = dict[str, dict[str, Tensor]]


class ViewUse(NamedTuple):
    """What a training step does with each view of a group; predictions of cost read it."""

    trained: bool = True
    """Whether a network with gradients encodes it."""
    target: bool = False
    """Whether a target network, without gradients, encodes it too."""
    mask_ratio: float = 0.0
    """Share of its patches that the trained network never sees."""
    head_patches: float = 0.0
    """Share of its patches that go through the trained head beside CLS."""
    target_head_patches: float = 0.0
    """Share of its patches that go through the target's head beside CLS."""
    all_tokens: bool = False
    """Whether the patches behind the last block are read, and not CLS alone."""


class CollapseKnobs(NamedTuple):
    """What the collapse monitor tells to turn on a method with prototypes."""

    uniform: str
    """When all prototypes are predicted alike."""
    few: str
    """When few prototypes are predicted."""
    constant: str
    """When all images have one representation."""


MSN_KNOBS = CollapseKnobs(
    uniform="change model.head.num_prototypes (fewer for few images or small batches)",
    few="raise model.loss.me_max_weight, or set model.loss.sinkhorn_iterations=3",
    constant="raise model.loss.me_max_weight",
)


class PretrainingMethod(BaseModel):
    """Views in, losses out; a trunk to read representations from.

    A method builds its networks, fills ``diagnostics`` and ``magnitudes`` and
    returns its losses. All else is here or elsewhere: the modes of MMEngine's
    runner and metrics here, the views in the data set and its preprocessor, the
    moving average in :class:`~msn_mm.engine.hooks.ema_hook.EMAHook` for a method
    with ``ema_pairs()``.

    The evaluated trunk is ``target_backbone`` where a method has one, else
    ``backbone`` (:func:`~msn_mm.models.readout.trunk_of`). A method whose paper
    evaluates the online network keeps its moving average under another name.

    Args:
        data_preprocessor: Config of the preprocessor.
        micro_batch: A network encodes at most so many views at once and keeps their
            activations alone, by one forward pass more of the trained views; head and
            loss see the whole batch, so the training is the same. None encodes a
            group of views at once; ``"auto"`` lets the launch of a training choose
            (:mod:`msn_mm.engine.micro_batch`).

    Attributes:
        diagnostics: Of the last step, for the collapse monitor:
            ``representations`` ``(B, D)`` and, of methods with prototypes,
            ``mean_prediction`` ``(K,)`` and ``cross_entropy``, a scalar; no gradients.
        magnitudes: Of the last step, name -> scalar, in the order of computation:
            the first that is not finite names what went wrong.
        collapse_knobs: What the collapse monitor tells to turn.
    """

    collapse_knobs: ClassVar[CollapseKnobs] = MSN_KNOBS

    def __init__(
        self, data_preprocessor: dict | None = None, micro_batch: MicroBatch = None
    ) -> None:
        # Built here, from this project's registry: MMEngine's base class would ask
        # its own, which knows our names only while a runner has set the scope.
        super().__init__(
            data_preprocessor=None if data_preprocessor is None else MODELS.build(data_preprocessor)
        )
        self.micro_batch = micro_batch
        self.diagnostics: dict[str, Tensor] = {}
        self.magnitudes: dict[str, Tensor] = {}

    def init_weights(self) -> None:
        """Initialise as the parts' ``init_cfg`` says, each moving average as its source.

        MMEngine initialises every part by itself, a moving average as another draw.
        """
        super().init_weights()
        pairs: Callable[[], list[tuple[nn.Module, nn.Module]]] = getattr(self, "ema_pairs", list)
        for source, target in pairs():
            # A target need not have all that its source has.
            target.load_state_dict(source.state_dict(), strict=False)

    def forward(
        self, inputs: Any, data_samples: dict[str, Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model.

        Args:
            inputs: In mode ``"loss"`` the views by name, each a dict with
                ``images`` ``(V * B, C, S, S)`` and ``key`` ``(V * B,)``; else
                images ``(B, C, H, W)``, normalised.
            data_samples: What collate gave beside the images.
            mode: ``"loss"``: dict of losses; ``"tensor"``: ``(B, D)`` features of
                the trunk; ``"predict"``: a dict for each image with
                ``feature`` ``(D,)``, ``label`` and ``support``.
        """
        if mode == "loss":
            return self.loss(inputs)
        features = self.extract_features(inputs)
        if mode == "tensor":
            return features
        if mode == "predict":
            samples = data_samples or {}
            return [
                {"feature": feature, "label": int(label), "support": bool(support)}
                for feature, label, support in zip(
                    features, samples["label"], samples["support"], strict=True
                )
            ]
        raise ValueError(f"mode is '{mode}'; it must be 'loss', 'tensor' or 'predict'")

    def extract_features(self, images: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Represent images by the trunk: of a ViT, CLS of the last block before the final norm.

        ``(B, C, H, W)`` -> ``(B, D)``. Source: arXiv 2204.07141, appendix C.1 and C.2.
        """
        return represent(trunk_of(self), images, mask_ratio=mask_ratio)

    def in_pieces(self, function: Callable[..., Rows], *rows: Tensor | None) -> Rows:
        """Apply a per-sample function to at most ``micro_batch`` rows at a time.

        See :func:`~msn_mm.models.ops.micro_batch.in_pieces`.
        """
        return in_pieces(function, self.micro_batch, *rows)

    @abstractmethod
    def loss(self, inputs: Views) -> dict[str, Tensor]:
        """Compute the losses of a training batch, and statistics for the log.

        What is named ``loss...`` is summed and minimised; the rest is logged.
        """

    def view_use(self, name: str) -> ViewUse:
        """Tell what a step does with the views of a group."""
        return ViewUse()

    def hidden_patches(self, name: str, view: dict[str, Tensor]) -> Tensor | None:
        """Tell which patches of each view the trained network does not see.

        Args:
            name: Name of the group.
            view: ``images`` ``(V * B, C, S, S)`` and ``key`` ``(V * B,)``.

        Returns:
            ``(V * B, R, C)`` bool over the grid of patches, or None for a group that is
            seen whole.
        """
        return None

    def prototypes(self) -> Tensor | None:
        """Return what images are assigned to, ``(K, P)``; None of a method without prototypes.

        The scores of images are ``project(images) @ prototypes().T``: the logits of the
        target network, of DINO before centring, without their temperature.
        """
        return None

    def project(self, images: Tensor) -> Tensor:
        """Project whole images by the target network, to where the prototypes lie.

        Args:
            images: ``(B, C, H, W)``, normalised.

        Returns:
            ``(B, P)`` of length 1.

        Raises:
            NotImplementedError: Of a method without prototypes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prototypes")
