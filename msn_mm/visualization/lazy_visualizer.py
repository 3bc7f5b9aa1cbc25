"""MMEngine's visualizer without the wait for matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.visualization import Visualizer

from msn_mm.registry import VISUALIZERS

_OF_THE_FIGURE = ("fig_save_canvas", "fig_save", "ax_save", "dpi")


class _NoFigure:
    """Stands for a figure while MMEngine's constructor asks for its resolution."""

    def get_dpi(self) -> None:
        """Return nothing: the resolution is known once there is a figure."""


@VISUALIZERS.register_module()
class LazyVisualizer(Visualizer):
    """A visualizer that makes its figure when the first thing is drawn.

    MMEngine's makes it at once, which loads matplotlib at the start of every
    training; most trainings write scalars alone.

    Args:
        name: As :class:`mmengine.visualization.Visualizer`, like the others.
        image: Drawn on at once where given.
        **kwargs: ``vis_backends``, ``save_dir``, ``fig_save_cfg``, ``fig_show_cfg``.
    """

    def __init__(
        self, name: str = "visualizer", image: np.ndarray | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        for part in _OF_THE_FIGURE:
            delattr(self, part)
        if image is not None:
            self.set_image(image)

    def _initialize_fig(self, fig_cfg: Any) -> tuple[Any, Any, Any]:
        return None, _NoFigure(), None

    def __getattr__(self, name: str) -> Any:
        # Reached only for what the instance lacks: the figure's parts, until now.
        if name not in _OF_THE_FIGURE:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        self.fig_save_canvas, self.fig_save, self.ax_save = super()._initialize_fig(
            self.fig_save_cfg
        )
        self.dpi = self.fig_save.get_dpi()
        return self.__dict__[name]
